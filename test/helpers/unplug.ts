/** A machine on a network whose one side is killed under clients of redis. */
import { join } from 'node:path';
import { command, root } from './command.js';
import { patience } from './pace.js';
import type { ClientsReport } from './redis-clients.js';

export interface UnplugJob {
  /** Of the server. */
  argv: string[];
  directory: string;
  victim: 'primary' | 'shadow';
  clients: number;
  /** How long the clients work before the kill, and after the survivor goes on. */
  beforeMs: number;
  afterMs: number;
}

export interface UnplugReport extends ClientsReport {
  /** How the survivor ended. */
  survivor: string;
}

/** In a process and a network namespace of their own; rejects when that does not come to its end. */
export async function unplugOnce(job: UnplugJob): Promise<UnplugReport> {
  const child = [process.execPath, '--import=tsx', join(root, 'test/helpers/unplug-child.ts')];
  const { stdout, stderr, status } = await command(
    ['unshare', '--net', 'timeout', `${patience(60)}`, ...child, JSON.stringify(job)],
    { cwd: root },
  );
  if (status !== 0) throw new Error(`ended with ${status}: ${stderr}`);
  return JSON.parse(stdout.toString()) as UnplugReport;
}
