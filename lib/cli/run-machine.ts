/** A machine that was made, joined to this process's descriptors, terminal and signals, until it ends. */
import { serveControl } from '../control/control-server.js';
import { LockstepError } from '../errors.js';
import type { Image } from '../image.js';
import type { Machine } from '../machine.js';
import type { ConsoleOptions, MachineOptions } from '../options.js';
import { machineOptions, tellTerminal } from './guest.js';
import type { MachineFlags } from './options.js';
import { closingLine, reportError, say, sayEnd, statusOfEnd } from './report.js';
import { attachTerminal } from './terminal.js';
import { become, type User } from './user.js';

/** A terminal's keys pass through here, for Ctrl-C; anything else the machine reads itself. */
export function processOptions(
  flags: MachineFlags,
  origin: Pick<Image, 'isSnapshot'>,
): MachineOptions & ConsoleOptions {
  return {
    ...machineOptions(flags, origin),
    stdin: process.stdin.isTTY ? 'stream' : 'inherit',
    stdout: 'inherit',
    stderr: 'inherit',
  };
}

/** Resolves with the status to exit with. The machine was made with {@link processOptions}. */
export async function runMachine(
  flags: MachineFlags & { log?: string; output?: string },
  machine: Machine,
  origin: Pick<Image, 'isSnapshot'>,
  user: User | undefined,
): Promise<number> {
  machine.on('warning', ({ detail }) => say(flags, detail));
  let asked: number | undefined;
  // Before the guest runs: who sees its first output may send a signal at once.
  const terminal = attachTerminal(
    {
      stdin: process.stdin.isTTY ? machine.stdin : undefined,
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
    tellTerminal(machine, origin);
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
