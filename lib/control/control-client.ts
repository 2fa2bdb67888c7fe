import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import { LockstepError } from '../errors.js';
import type { ControlReply, ControlRequest } from './control-server.js';

/** Asks the process that listens at this `--control`. */
export async function ask(path: string, request: ControlRequest): Promise<ControlReply> {
  const socket = connect(path);
  const failed = new Promise<never>((_resolve, reject) => {
    socket.once('error', (cause) =>
      reject(
        new LockstepError('ERR_LOCKSTEP_SYSTEM', `no machine answers at ${path}`, {
          cause,
          hint: 'Is it running, with this --control?',
        }),
      ),
    );
  });
  const answered = (async () => {
    socket.write(`${JSON.stringify(request)}\n`);
    for await (const line of createInterface({ input: socket })) return JSON.parse(line) as ControlReply;
    throw new LockstepError('ERR_LOCKSTEP_SYSTEM', 'the machine ended before it answered');
  })();
  try {
    return await Promise.race([answered, failed]);
  } finally {
    socket.destroy();
  }
}
