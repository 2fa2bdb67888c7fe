/**
 * A process for a network namespace of its own: runs or records redis-server in a machine, puts it under a load
 * for each line it reads, and relives at the end what was recorded. Takes a RedisJob; reads Loads and prints
 * RedisBursts, a line each; the end of its input ends it, with a RedisRecorded. All as JSON.
 */
import { execFileSync } from 'node:child_process';
import { createInterface } from 'node:readline';
import { Image, Machine, type MachineStats, Recording, record, replay } from '../../lib/index.js';
import { benchmark, type Load, type Speed } from './redis-loads.js';

export interface RedisJob {
  argv: string[];
  /** Where to record to; without it, the machine is not recorded. */
  log?: string;
  /** How often to relive it. */
  replays: number;
}

export interface RedisBurst {
  speed: Speed;
  perRequest: Record<string, number>;
  /** Of this process, for a request: the machine, and what the host's network does on its behalf. */
  cpuUs: number;
}

export interface RedisRecorded {
  events: number;
  eventBytes: number;
  inputBytes: number;
  replayMs: number[];
  /** Whether all of them came to the same. */
  equal: boolean;
}

const ADDRESS = '10.0.2.15';

/** What a request costs, from the statistics before and after so many. */
function perRequest(before: MachineStats, after: MachineStats, requests: number): Record<string, number> {
  const parts: Record<string, (stats: MachineStats) => number> = {
    exits: ({ exits }) => exits,
    'system calls': ({ systemCalls }) => systemCalls,
    'frames in': ({ netFramesIn }) => netFramesIn,
    'frames out': ({ netFramesOut }) => netFramesOut,
    'bytes copied': ({ netBytesIn, netBytesOut }) => netBytesIn + netBytesOut,
    'bytes of log': ({ logEventBytes }) => logEventBytes,
  };
  return Object.fromEntries(
    Object.entries(parts).map(([name, of]) => [name, (of(after) - of(before)) / requests]),
  );
}

/** One load, and what it cost. */
async function burst(machine: Machine, load: Load): Promise<RedisBurst> {
  const before = machine.stats();
  const busyBefore = process.cpuUsage();
  const speed = await benchmark(ADDRESS, load);
  const { user, system } = process.cpuUsage(busyBefore);
  const requests = 2 * load.requests;
  const costs = perRequest(before, machine.stats(), requests);
  return { speed, perRequest: costs, cpuUs: (user + system) / requests };
}

async function relive(log: string, replays: number): Promise<RedisRecorded> {
  const { info } = await Recording.open(log);
  const { events, eventBytes, inputBytes } = info;
  const recorded: RedisRecorded = { events, eventBytes, inputBytes, replayMs: [], equal: true };
  for (let i = 0; i < replays; i++) {
    const begun = performance.now();
    const { divergence } = await (await replay(log)).result;
    recorded.replayMs.push(performance.now() - begun);
    recorded.equal &&= divergence === null;
  }
  return recorded;
}

const say = (value: unknown) => process.stdout.write(`${JSON.stringify(value)}\n`);

async function main({ argv, log, replays }: RedisJob): Promise<void> {
  const image = await Image.fromProgram({ argv });
  const options = { net: { tap: true }, stdin: 'ignore' } as const;
  const machine = log ? await record(image, { ...options, log }) : await Machine.create(image, options);
  if (!log) await machine.start();
  for await (const line of createInterface({ input: machine.stdout }))
    if (line.includes('Ready to accept connections')) break;
  machine.stdout.resume();
  machine.stderr.resume();
  for await (const line of createInterface({ input: process.stdin }))
    say(await burst(machine, JSON.parse(line)));
  execFileSync('redis-cli', ['-h', ADDRESS, 'shutdown', 'nosave']);
  await machine.ended;
  await machine.close();
  if (log) say(await relive(log, replays));
}

await main(JSON.parse(process.argv[2] as string));
