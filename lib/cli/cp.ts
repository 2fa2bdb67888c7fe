import { stat, writeFile } from 'node:fs/promises';
import { constants } from 'node:os';
import { basename, join } from 'node:path';
import { ask } from '../control/control-client.js';
import { type ErrorCode, LockstepError } from '../errors.js';
import type { GuestTreeEntry } from '../guest-tree-answer.js';
import { invalid } from '../options.js';
import { Recording } from '../recording.js';
import { replay } from '../replay.js';
import { writeTree } from './copy-tree.js';
import { say } from './report.js';

interface Flags {
  control?: string;
  event?: number;
  recursive?: boolean;
  quiet?: boolean;
}

/** Answers what `lockstep cp` asks of a machine, wherever that is. */
interface Source {
  readFile(path: string): Promise<Uint8Array>;
  readTree(path: string): Promise<GuestTreeEntry[]>;
}

/** A running machine, through the socket of its process. */
function runningMachine(control: string): Source {
  const request = async (op: 'read' | 'tree', path: string) => {
    const reply = await ask(control, { op, path });
    if (reply.ok) return reply;
    const { code, message, hint, errno } = reply;
    throw new LockstepError(code as ErrorCode, message, { hint, errno });
  };
  const decode = (data: string) => Buffer.from(data, 'base64');
  return {
    async readFile(path) {
      const reply = await request('read', path);
      return 'data' in reply ? decode(reply.data) : new Uint8Array();
    },
    async readTree(path) {
      const reply = await request('tree', path);
      if (!('tree' in reply)) return [];
      return reply.tree.map(({ data, ...rest }) => ({ ...rest, contents: decode(data) }));
    },
  };
}

/** Relives the log up to an event, lets the machine go on live from there, and asks it. */
async function askRecorded<T>(
  log: string,
  event: number | undefined,
  question: (source: Source) => Promise<T>,
): Promise<T> {
  const { info } = await Recording.open(log);
  const stopAtEvent = Math.min(event ?? info.events, info.events);
  await using replaying = await replay(log, { stopAtEvent, liveAfterStop: true });
  await replaying.stopped;
  const answer = question(replaying.machine);
  replaying.machine.resume();
  return await answer;
}

/** Where a copy goes: into a directory that is there, or to the very name. */
async function destination(to: string, name: string): Promise<string> {
  const directory = await stat(to).then(
    (status) => status.isDirectory(),
    () => false,
  );
  return directory ? join(to, name) : to;
}

/** `lockstep cp`. */
export default async function cp(flags: Flags, source: string, to: string): Promise<number> {
  const { control, event, recursive } = flags;
  const [, log, inLog] = /^(.+?):(\/.*)$/.exec(source) ?? [];
  if ((control === undefined) === (log === undefined)) {
    throw invalid('say where the file is: --control SOCKET and /path, or LOG:/path');
  }
  if (recursive && to === '-') throw invalid('a directory cannot be copied to stdout');
  const path = inLog ?? source;
  const asked = <T>(question: (machine: Source) => Promise<T>) =>
    control === undefined ? askRecorded(log as string, event, question) : question(runningMachine(control));
  if (recursive) {
    const place = await destination(to, basename(path));
    const left = await writeTree(await asked((machine) => machine.readTree(path)), place);
    if (left.length > 0) say(flags, `left out, being neither files nor directories: ${left.join(', ')}`);
    return 0;
  }
  const contents = await asked((machine) => machine.readFile(path)).catch((error: unknown) => {
    if (error instanceof LockstepError && error.errno === constants.errno.EISDIR)
      throw new LockstepError(error.code, `${path} is a directory`, {
        hint: 'Copy it with --recursive.',
        cause: error,
      });
    throw error;
  });
  if (to === '-') process.stdout.write(contents);
  else await writeFile(await destination(to, basename(path)), contents);
  return 0;
}
