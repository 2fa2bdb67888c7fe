import { DivergenceError, LockstepError } from '../errors.js';
import type { Ended } from '../events.js';
import type { MachineStats } from '../machine-state.js';

/** A message of Lockstep's own: stderr, never stdout, and nothing with --quiet. */
export function say(flags: { quiet?: boolean }, message: string): void {
  if (!flags.quiet) process.stderr.write(`lockstep: ${message}\n`);
}

/** Prints why it failed; the status to exit with. */
export function reportError(error: unknown): number {
  if (!(error instanceof LockstepError)) {
    process.stderr.write(`lockstep: ${describeForeign(error)}\n`);
    return 125;
  }
  process.stderr.write(`lockstep: ${error.message}\n`);
  if (error instanceof DivergenceError) reportDivergence(error);
  if (error.hint) process.stderr.write(`  ${error.hint}\n`);
  return statusOfError(error);
}

/** What the system refused is the user's to see; anything else is a defect, and its stack tells where. */
function describeForeign(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const refused = 'syscall' in error && 'errno' in error;
  return refused ? error.message : (error.stack ?? error.message);
}

export function statusOfError(error: LockstepError): number {
  if (error.code === 'ERR_LOCKSTEP_PROGRAM_NOT_FOUND') return 127;
  if (error.code === 'ERR_LOCKSTEP_PROGRAM_NOT_RUNNABLE') return 126;
  if (error.code === 'ERR_LOCKSTEP_DIVERGED') return 1;
  return 125;
}

function reportDivergence({ divergence }: DivergenceError): void {
  const { event, kind, where, expected, actual, before } = divergence;
  const lines = [
    `  at event ${event}: ${kind} ${where}`,
    `    expected ${expected}`,
    `    actual   ${actual}`,
    ...(before.length > 0 ? ['  the events before:', ...before.map((line) => `    ${line}`)] : []),
  ];
  process.stderr.write(`${lines.join('\n')}\n`);
}

/** The program's status, as a shell would have it. */
export function statusOfEnd(ended: Ended): number {
  switch (ended.reason) {
    case 'exited':
      return ended.status;
    case 'signal':
      return 128 + ended.status;
    case 'halted':
    case 'closed':
    case 'end-of-log':
    case 'handed-over':
      return 0;
    default:
      return 125;
  }
}

export function sayEnd(flags: { quiet?: boolean }, { reason, status, detail }: Ended): void {
  if (detail) say(flags, detail);
  else if (reason === 'panic' || reason === 'shutdown' || reason === 'fenced')
    say(flags, `the machine ended: ${reason}`);
  else if (reason === 'signal') say(flags, `the program was ended by signal ${status}`);
}

export function bytes(count: number): string {
  if (count < 1024) return `${count} B`;
  const units = ['KiB', 'MiB', 'GiB', 'TiB'];
  let value = count / 1024;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${value.toFixed(1)} ${units[unit]}`;
}

/** The lines of a table, whose columns are as wide as they have to be. */
export function aligned(rows: string[][]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}

export function count(number: number, noun: string): string {
  return `${number.toLocaleString('en-US')} ${noun}${number === 1 ? '' : 's'}`;
}

const ONE_PROCESS =
  'a machine has one process: have the program stay in the foreground and use threads ' +
  '(nginx: daemon off; master_process off; redis-server: --daemonize no --save "")';

/** What a person wants to know at the end. */
export function closingLine(stats: MachineStats): string {
  const parts: string[] = [];
  if (stats.logFileBytes > 0) {
    parts.push(
      count(stats.events, 'event'),
      `log ${bytes(stats.logFileBytes)}`,
      count(stats.digests, 'digest'),
    );
  }
  const { netFramesIn, netFramesOut, netDroppedIn, netDroppedOut } = stats;
  if (netFramesIn + netFramesOut > 0) {
    const dropped = netDroppedIn + netDroppedOut;
    parts.push(
      `network ${count(netFramesIn, 'frame')} in, ${count(netFramesOut, 'frame')} out` +
        (dropped > 0 ? `, ${dropped} dropped` : ''),
    );
  }
  const unknown = Object.entries(stats.unknownSyscalls).map(([name, times]) => `${name} (${times})`);
  if (unknown.length > 0) parts.push(`unknown system calls: ${unknown.join(', ')}`);
  if ('fork' in stats.unknownSyscalls || 'vfork' in stats.unknownSyscalls) parts.push(ONE_PROCESS);
  return parts.join(', ');
}
