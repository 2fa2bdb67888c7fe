import { resolve } from 'node:path';
import { ask } from '../control/control-client.js';
import { type ErrorCode, LockstepError } from '../errors.js';
import { bytes, say } from './report.js';

interface Flags {
  control: string;
  force?: boolean;
  json?: boolean;
  quiet?: boolean;
}

/** `lockstep snapshot`. The machine's own process writes the file. */
export default async function snapshot(flags: Flags, file: string): Promise<number> {
  const reply = await ask(flags.control, {
    op: 'snapshot',
    path: resolve(file),
    force: flags.force ?? false,
  });
  if (!reply.ok) {
    const { code, message, hint, errno } = reply;
    throw new LockstepError(code as ErrorCode, message, { hint, errno });
  }
  if (!('snapshot' in reply))
    throw new LockstepError('ERR_LOCKSTEP_STATE', 'the machine does not know what a snapshot is');
  const { event, contentBytes } = reply.snapshot;
  if (flags.json) process.stdout.write(`${JSON.stringify({ version: 1, file, ...reply.snapshot })}\n`);
  say(flags, `${file}: the machine after event ${event}, ${bytes(contentBytes)} of memory`);
  return 0;
}
