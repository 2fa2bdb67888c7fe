/**
 * A process for a network namespace of its own: runs or records redis-server in a machine under the given loads,
 * and relives what was recorded. Takes a RedisJob and prints a RedisOutcome, both as JSON.
 */
import { execFileSync } from 'node:child_process';
import { createInterface } from 'node:readline';
import { Image, Machine, type MachineStats, Recording, record, replay } from '../../lib/index.js';
import { benchmark, type Load, type Speed } from './redis-loads.js';

export interface RedisJob {
  argv: string[];
  loads: Load[];
  /** Where to record to; without it, the machine is not recorded. */
  log?: string;
}

export interface RedisOutcome {
  /** `cpuUs`: of this process, for a request: the machine, and what the host's network does on its behalf. */
  loads: { speed: Speed; perRequest: Record<string, number>; cpuUs: number }[];
  log?: { events: number; eventBytes: number; inputBytes: number; replayMs: number; equal: boolean };
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

async function main({ argv, loads, log }: RedisJob): Promise<RedisOutcome> {
  const image = await Image.fromProgram({ argv });
  const options = { net: { tap: true }, stdin: 'ignore' } as const;
  const machine = log ? await record(image, { ...options, log }) : await Machine.create(image, options);
  if (!log) await machine.start();
  for await (const line of createInterface({ input: machine.stdout }))
    if (line.includes('Ready to accept connections')) break;
  machine.stdout.resume();
  machine.stderr.resume();
  const outcome: RedisOutcome = { loads: [] };
  for (const load of loads) {
    const before = machine.stats();
    const busyBefore = process.cpuUsage();
    const speed = await benchmark(ADDRESS, load);
    const { user, system } = process.cpuUsage(busyBefore);
    const requests = 2 * load.requests;
    const costs = perRequest(before, machine.stats(), requests);
    outcome.loads.push({ speed, perRequest: costs, cpuUs: (user + system) / requests });
  }
  execFileSync('redis-cli', ['-h', ADDRESS, 'shutdown', 'nosave']);
  await machine.ended;
  await machine.close();
  if (log) {
    const { info } = await Recording.open(log);
    const begun = performance.now();
    const { divergence } = await (await replay(log)).result;
    const replayMs = performance.now() - begun;
    const { events, eventBytes, inputBytes } = info;
    outcome.log = { events, eventBytes, inputBytes, replayMs, equal: divergence === null };
  }
  return outcome;
}

console.log(JSON.stringify(await main(JSON.parse(process.argv[2] as string))));
