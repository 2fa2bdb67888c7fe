/**
 * A redis-server on a bridge in a network namespace of this process's own: killed again and again under its
 * clients, each time after a new shadow has joined. Takes a RejoinJob and prints a RejoinReport.
 */
import { execFileSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { ADDRESS, makeBridge, NET, waitForRedis } from './plug.js';
import { type ClientsReport, RedisClients } from './redis-clients.js';
import { Chain } from './rejoin.js';

export interface RejoinJob {
  /** Of the server. */
  argv: string[];
  directory: string;
  kills: number;
  clients: number;
  betweenMs: number;
}

export interface RejoinReport extends ClientsReport {
  /** How the last side ended. */
  survivor: string;
  /** What each live side said of sending its state. */
  states: string[];
}

const job = JSON.parse(process.argv[2] as string) as RejoinJob;
makeBridge();
const chain = new Chain(job.directory, ['--net', NET]);
process.once('exit', () => chain.kill());
await chain.start(['--', ...job.argv]);
await waitForRedis();
const clients = await RedisClients.connect(ADDRESS, job.clients);
clients.start();
const states: string[] = [];
for (let kill = 0; kill < job.kills; kill++) {
  await sleep(job.betweenMs);
  const sender = chain.live;
  await chain.join();
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
console.log(JSON.stringify({ ...report, survivor: await chain.live.end(), states } satisfies RejoinReport));
