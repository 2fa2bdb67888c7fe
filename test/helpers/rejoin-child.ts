/**
 * A redis-server on a bridge in a network namespace of this process's own: killed again and again under its
 * clients, each time after a new shadow has joined. Takes a RejoinJob and prints a RejoinReport.
 */
import { execFileSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { ADDRESS, makeBridge, NET, waitForRedis } from './plug.js';
import { type ClientsReport, RedisClients } from './redis-clients.js';
import { Chain } from './rejoin.js';
import { rightsOnceChanged } from './threads-of.js';

export interface RejoinJob {
  /** Of the server. */
  argv: string[];
  directory: string;
  kills: number;
  clients: number;
  betweenMs: number;
  /** Who all sides go on as. */
  user?: string;
}

export interface RejoinReport extends ClientsReport {
  /** How the last side ended. */
  survivor: string;
  /** What each live side said of sending its state. */
  states: string[];
  /** Users and capabilities that the sides' threads had when they were protected. */
  rights: string[];
}

const job = JSON.parse(process.argv[2] as string) as RejoinJob;
makeBridge();
const chain = new Chain(job.directory, ['--net', NET, ...(job.user ? ['--user', job.user] : [])]);
process.once('exit', () => chain.kill());
await chain.start(['--', ...job.argv]);
await waitForRedis();
const clients = await RedisClients.connect(ADDRESS, job.clients);
clients.start();
const states: string[] = [];
const rights = new Set<string>();
for (let kill = 0; kill < job.kills; kill++) {
  await sleep(job.betweenMs);
  const sender = chain.live;
  await chain.join();
  if (job.user) for (const { pid } of [sender, chain.live]) rights.add(await rightsOnceChanged(pid));
  states.push((await sender.notice('state-sent')).detail ?? '');
  await sleep(job.betweenMs);
  await chain.takeOver();
  const before = clients.acknowledged;
  for (let tries = 0; clients.acknowledged < before + job.clients; tries++) {
    if (tries === 200) throw new Error('the clients are not served any more');
    await sleep(50);
  }
}
const report = await clients.finish();
execFileSync('redis-cli', ['-h', ADDRESS, 'shutdown', 'nosave']);
console.log(
  JSON.stringify({
    ...report,
    survivor: await chain.live.end(),
    states,
    rights: [...rights],
  } satisfies RejoinReport),
);
