import { prune as remove } from '../stream/prune.js';
import { bytes, count, say } from './report.js';

/** `lockstep prune`. */
export default async function prune(
  flags: { olderThan?: number; quiet?: boolean },
  directory: string,
): Promise<number> {
  const done = await remove(directory, { olderThanHours: flags.olderThan });
  say(flags, `${directory}: ${count(done.files, 'file')} removed, ${bytes(done.bytes)}`);
  return 0;
}
