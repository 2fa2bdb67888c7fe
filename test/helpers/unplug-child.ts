/**
 * One unplugged machine, in a network namespace of this process's own: redis-server in a pair on a bridge, its
 * clients, and a kill -9 in the middle. Takes an UnplugJob and prints an UnplugReport.
 */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { SideProcess } from '../../lib/control/side-process.js';
import { ADDRESS, makeBridge, NET, waitForRedis } from './plug.js';
import { RedisClients } from './redis-clients.js';
import type { UnplugJob, UnplugReport } from './unplug.js';

const job = JSON.parse(process.argv[2] as string) as UnplugJob;
makeBridge();
const at = (name: string) => join(job.directory, name);
const shared = ['--link', `unix:${at('link')}`, '--arbiter', `file:${at('arbiter')}`, '--net', NET];
const own = (name: string) => ['--console', `unix:${at(`${name}.console`)}`, '--log', at(`${name}.log`)];
const primary = new SideProcess('primary', [...shared, ...own('primary'), '--', ...job.argv]);
await primary.notice('listening');
const shadow = new SideProcess('shadow', [...shared, ...own('shadow')]);
await primary.notice('armed');
const [victim, survivor] = job.victim === 'primary' ? [primary, shadow] : [shadow, primary];

await waitForRedis();
const clients = await RedisClients.connect(ADDRESS, job.clients);
clients.start();
await sleep(job.beforeMs);
victim.kill();
await survivor.notice(job.victim === 'primary' ? 'live' : 'alone');
const before = clients.acknowledged;
await sleep(job.afterMs);
// Whoever waits for an answer that never comes is not waited for: the clients must be served again.
for (let tries = 0; clients.acknowledged < before + job.clients; tries++) {
  if (tries === 100) throw new Error('the clients are not served any more');
  await sleep(job.afterMs / 10);
}
const report = await clients.finish();
execFileSync('redis-cli', ['-h', ADDRESS, 'shutdown', 'nosave']);
console.log(JSON.stringify({ ...report, survivor: await survivor.end() } satisfies UnplugReport));
