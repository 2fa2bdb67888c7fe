import { publish as write } from '../stream/publish.js';
import type { PriorityFlags } from './options.js';
import { groupOptions } from './priorities.js';
import { bytes, count, say } from './report.js';

/** `lockstep publish`. */
export default async function publish(
  flags: PriorityFlags & { name?: string; level?: number; quiet?: boolean },
  image: string,
  directory: string,
): Promise<number> {
  const { name, level } = flags;
  const done = await write(image, directory, { name, level, ...(await groupOptions(flags)) });
  const written = done.bytesWritten < done.bytes ? `, of which ${bytes(done.bytesWritten)} new` : '';
  say(
    flags,
    `${done.path}: ${count(done.blocks, 'block')}, ${bytes(done.bytes)}${written}, sha256 ${done.sha256}`,
  );
  return 0;
}
