import { stat, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { basename, join } from 'node:path';
import { createInterface } from 'node:readline';
import { type ErrorCode, LockstepError } from '../errors.js';
import { invalid } from '../options.js';
import { Recording } from '../recording.js';
import { replay } from '../replay.js';
import type { ControlReply, ControlRequest } from './control-server.js';

interface Flags {
  control?: string;
  event?: number;
}

async function ask(path: string, request: ControlRequest): Promise<ControlReply> {
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

async function fromMachine(control: string, path: string): Promise<Uint8Array> {
  const reply = await ask(control, { op: 'read', path });
  if (!reply.ok) throw new LockstepError(reply.code as ErrorCode, reply.message, { errno: reply.errno });
  return 'data' in reply ? Buffer.from(reply.data, 'base64') : new Uint8Array();
}

/** Relives the log up to an event, lets the machine go on live from there, and asks it. */
async function fromLog(log: string, path: string, event?: number): Promise<Uint8Array> {
  const { info } = await Recording.open(log);
  const stopAtEvent = Math.min(event ?? info.events, info.events);
  await using replaying = await replay(log, { stopAtEvent, liveAfterStop: true });
  await replaying.stopped;
  const contents = replaying.machine.readFile(path);
  replaying.machine.resume();
  return await contents;
}

async function put(contents: Uint8Array, to: string, name: string): Promise<void> {
  if (to === '-') {
    process.stdout.write(contents);
    return;
  }
  const directory = await stat(to).then(
    (status) => status.isDirectory(),
    () => false,
  );
  await writeFile(directory ? join(to, name) : to, contents);
}

/** `lockstep cp`. */
export default async function cp(flags: Flags, source: string, to: string): Promise<number> {
  const [, log, inLog] = /^(.+?):(\/.*)$/.exec(source) ?? [];
  if ((flags.control === undefined) === (log === undefined)) {
    throw invalid('say where the file is: --control SOCKET and /path, or LOG:/path');
  }
  const path = inLog ?? source;
  const contents =
    flags.control !== undefined
      ? await fromMachine(flags.control, path)
      : await fromLog(log as string, path, flags.event);
  await put(contents, to, basename(path));
  return 0;
}
