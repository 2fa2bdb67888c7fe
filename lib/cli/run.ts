import { serveControl } from '../control/control-server.js';
import { LockstepError } from '../errors.js';
import { Machine } from '../machine.js';
import type { LogOptions } from '../options.js';
import { createRecorded } from '../recording.js';
import { guestImage, logOptions, machineOptions, tellTerminal } from './guest.js';
import type { GuestFlags, LogFlags } from './options.js';
import { closingLine, reportError, say, sayEnd, statusOfEnd } from './report.js';
import { attachTerminal } from './terminal.js';
import { become, findUser } from './user.js';

/** `lockstep run` and `lockstep record`. */
export default async function run(flags: GuestFlags & LogFlags, program: string[]): Promise<number> {
  const user = findUser(flags);
  const image = await guestImage(program, flags, process.stdin.isTTY || process.stdout.isTTY);
  // A terminal's keys pass through here, for Ctrl-C; anything else the machine reads itself.
  const options = {
    ...machineOptions(flags, image),
    stdin: process.stdin.isTTY ? 'stream' : 'inherit',
    stdout: 'inherit',
    stderr: 'inherit',
  } as const;
  const machine =
    flags.log === undefined
      ? await Machine.create(image, options)
      : createRecorded(image, { ...options, ...(logOptions(flags) as LogOptions) });
  machine.on('warning', ({ detail }) => say(flags, detail));
  let asked: number | undefined;
  // Before the guest runs: who sees its first output may send a signal at once.
  const terminal = attachTerminal(
    {
      stdin: options.stdin === 'stream' ? machine.stdin : undefined,
      signal: (number) => machine.signal(number),
      resize: (rows, columns) => machine.resize(rows, columns),
    },
    (status) => {
      asked = status;
      void machine.close();
    },
  );
  let control: Awaited<ReturnType<typeof serveControl>> | undefined;
  try {
    if (flags.control !== undefined) control = await serveControl(flags.control, machine);
    become(user, flags);
    await machine.start();
    tellTerminal(machine, image);
    const ended = await machine.ended;
    terminal.release();
    sayEnd(flags, ended);
    return asked ?? statusOfEnd(ended);
  } catch (error) {
    terminal.release();
    if (!(error instanceof LockstepError)) throw error;
    // Asked to stop before the guest ran.
    if (asked !== undefined && error.code === 'ERR_LOCKSTEP_STATE') return asked;
    return reportError(error);
  } finally {
    // Closing frees the machine, and its numbers with it.
    const line = machine.state === 'closed' ? '' : closingLine(machine.stats());
    await control?.close();
    await machine.close();
    if (line) say(flags, line);
  }
}
