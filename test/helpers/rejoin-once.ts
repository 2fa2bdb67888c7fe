import { join } from 'node:path';
import { command, root } from './command.js';
import { patience } from './pace.js';
import type { RejoinJob, RejoinReport } from './rejoin-child.js';

/** In a process and a network namespace of their own; rejects when that does not come to its end. */
export async function rejoinOnce(job: RejoinJob): Promise<RejoinReport> {
  const child = [process.execPath, '--import=tsx', join(root, 'test/helpers/rejoin-child.ts')];
  const limited = ['unshare', '--net', 'timeout', `${patience(90)}`, ...child, JSON.stringify(job)];
  const { stdout, stderr, status } = await command(limited, { cwd: root });
  if (status !== 0) throw new Error(`ended with ${status}: ${stderr}`);
  return JSON.parse(stdout.toString()) as RejoinReport;
}
