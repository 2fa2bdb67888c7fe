/** Where a host is, unless it was told: its address, its directory, and whose that is. */
import { randomUUID } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { homedir, networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { invalid } from '../options.js';

export function onlyAddress(): string {
  const found = Object.values(networkInterfaces())
    .flat()
    .filter((one) => one && !one.internal && one.family === 'IPv4')
    .map((one) => one?.address as string);
  if (found.length === 1) return found[0] as string;
  const has = found.length === 0 ? 'no address' : `several addresses (${found.join(', ')})`;
  throw invalid(`this host has ${has}`, 'Say by --address where the other hosts reach it.');
}

export function usualDirectory(name: string): string {
  const state = process.env.XDG_STATE_HOME || join(homedir(), '.local/state');
  return join(process.getuid?.() === 0 ? '/var/lib/lockstep' : join(state, 'lockstep'), name);
}

/** Random, and the directory's for as long as there is one. */
export function directoryId(directory: string): string {
  const path = join(directory, 'id');
  if (!existsSync(path)) writeFileSync(path, `${randomUUID()}\n`, { mode: 0o600 });
  return readFileSync(path, 'utf8').trim();
}
