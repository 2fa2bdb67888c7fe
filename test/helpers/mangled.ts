/** Logs cut off and bits flipped, in a child, because what is looked for is a crash. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { command, root } from './command.js';

/** Cut at a byte, or the bit at 8 * byte + n flipped, or bytes overwritten. */
export type Damage = { cut: number } | { flip: number } | { at: number; bytes: number[] };

interface Refused {
  code: string;
  message: string;
}

interface Relived {
  events: number;
  diverged: boolean;
  ended: boolean;
}

export interface MangledReport {
  damage: Damage;
  info: { events: number; wholeBytes: number; ending: string } | Refused;
  replayed: Relived | Refused;
  stdout: string;
  repaired: { keptBytes: number; droppedBytes: number; events: number } | Refused;
  /** After the repair. */
  again: Relived | Refused;
  stdoutAgain: string;
}

export function damaged(log: Buffer, damage: Damage): Buffer {
  if ('cut' in damage) return log.subarray(0, damage.cut);
  const copy = Buffer.from(log);
  if ('flip' in damage)
    copy[damage.flip >> 3] = (copy[damage.flip >> 3] as number) ^ (1 << (damage.flip & 7));
  else copy.set(damage.bytes, damage.at);
  return copy;
}

export async function mangle(log: string, damages: Damage[]): Promise<MangledReport[]> {
  const jobs = `${log}.jobs`;
  writeFileSync(jobs, JSON.stringify(damages));
  const program = join(root, 'test/helpers/mangled-child.ts');
  const { status, signal, stdout, stderr } = await command(
    [process.execPath, '--import=tsx', program, log, jobs],
    { cwd: root },
  );
  const reports = stdout
    .toString()
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as MangledReport);
  if (status !== 0) {
    const damage = JSON.stringify(damages[reports.length]);
    throw new Error(`the child ended with ${status ?? signal} at ${damage}: ${stderr}`);
  }
  return reports;
}
