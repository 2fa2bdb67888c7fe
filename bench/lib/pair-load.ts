/**
 * A process for a network namespace of its own: redis-server in a machine on a bridge, with a shadow or alone, and
 * clients who together make a fixed number of writes a second. Takes a PairLoadJob and prints a PairLoadReport.
 */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { SideProcess } from '../../lib/control/side-process.js';
import { ADDRESS, makeBridge, NET, waitForRedis } from '../../test/helpers/plug.js';
import { RedisClients } from '../../test/helpers/redis-clients.js';

export interface PairLoadJob {
  /** Of the server. */
  argv: string[];
  directory: string;
  shadowed: boolean;
  clients: number;
  /** Writes a second, of all clients together. */
  rate: number;
  seconds: number;
}

export interface PairLoadReport {
  /** Writes acknowledged in a second. */
  throughput: number;
  /** CPU time for a write, microseconds: of each side's process, and of the busiest thread of the primary's. */
  primaryUs: number;
  primaryThreadUs: number;
  shadowUs: number;
}

const WARM_UP_MS = 1000;

/** CPU time of each thread so far, microseconds. */
function threadsUs(pid: number): Map<string, number> {
  const tasks = `/proc/${pid}/task`;
  return new Map(
    readdirSync(tasks).map((task) => {
      const [ns = '0'] = readFileSync(join(tasks, task, 'schedstat'), 'utf8').split(' ');
      return [task, Number(ns) / 1000];
    }),
  );
}

function spentUs(before: Map<string, number>, after: Map<string, number>): number[] {
  return [...after].map(([task, us]) => us - (before.get(task) ?? 0));
}

const sum = (values: number[]) => values.reduce((total, value) => total + value, 0);

async function main(job: PairLoadJob): Promise<PairLoadReport> {
  makeBridge();
  const at = (name: string) => join(job.directory, name);
  const shared = [
    '--link',
    `unix:${at('link')}`,
    '--arbiter',
    `file:${at('arbiter')}`,
    '--net',
    NET,
    '--force',
  ];
  const own = (name: string) => ['--console', `unix:${at(`${name}.console`)}`, '--log', at(`${name}.log`)];
  const alone = job.shadowed ? [] : ['--alone'];
  const sides = [new SideProcess('primary', [...shared, ...own('primary'), ...alone, '--', ...job.argv])];
  const primary = sides[0] as SideProcess;
  await primary.notice('listening');
  if (job.shadowed) {
    sides.push(new SideProcess('shadow', [...shared, ...own('shadow')]));
    await primary.notice('armed');
  }
  await waitForRedis();
  // Whoever was answered writes again when the next write of all is due: the rate holds while anybody is free.
  const begun = performance.now();
  let writes = 0;
  const clients = await RedisClients.connect(ADDRESS, job.clients, () => {
    const due = begun + (++writes * 1000) / job.rate;
    return Math.max(0, due - performance.now());
  });
  clients.start();
  await sleep(WARM_UP_MS);
  const before = {
    time: performance.now(),
    done: clients.acknowledged,
    cpu: sides.map(({ pid }) => threadsUs(pid)),
  };
  await sleep(job.seconds * 1000);
  const done = clients.acknowledged - before.done;
  const seconds = (performance.now() - before.time) / 1000;
  const spent = sides.map(({ pid }, i) => spentUs(before.cpu[i] ?? new Map(), threadsUs(pid)));
  const { missing, troubles } = await clients.finish();
  execFileSync('redis-cli', ['-h', ADDRESS, 'shutdown', 'nosave']);
  for (const side of sides) await side.end();
  if (missing > 0 || troubles.length > 0)
    throw new Error(`${missing} writes are missing; ${troubles.join(', ')}`);
  const [ofPrimary = [], ofShadow = []] = spent;
  return {
    throughput: done / seconds,
    primaryUs: sum(ofPrimary) / done,
    primaryThreadUs: Math.max(...ofPrimary) / done,
    shadowUs: sum(ofShadow) / done,
  };
}

console.log(JSON.stringify(await main(JSON.parse(process.argv[2] as string))));
