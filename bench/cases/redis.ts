/** redis-server in a machine, recorded and not, against the floor of every user-space VMM: a relay between two TAPs. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { BadCable, NEAR } from '../../test/helpers/bad-cable.js';
import { redisServer } from '../../test/helpers/redis-server.js';
import type { Case, Row } from '../lib/case.js';
import { inTurn, ratios, summarise, within } from '../lib/measure.js';
import { benchmark, type Load, type Speed } from '../lib/redis-loads.js';
import type { RedisBurst, RedisJob, RedisRecorded } from '../lib/redis-machine.js';

const MACHINE = fileURLToPath(new URL('../lib/redis-machine.ts', import.meta.url));
const LIMIT_MS = 60_000;
/** Clients, requests of either command in one burst, and how much longer than by way of the relay one may take. */
const LOADS: (Load & { limit?: number })[] = [
  { clients: 50, requests: 25_000, limit: 1 / 0.6 },
  { clients: 10, requests: 15_000 },
  { clients: 1, requests: 4_000, limit: 1 / 0.3 },
];
const COMMANDS = ['SET', 'GET'] as const;
/** Short bursts in turn, all servers up all the time: neighbours on the host disturb two that follow each other alike. */
const BURSTS_PER_PAIR = 5;

interface Server<Burst> {
  burst: (load: Load) => Promise<Burst>;
  end: () => Promise<void>;
}

interface MachineServer extends Server<RedisBurst> {
  /** After end(), of one that was recorded. */
  recorded?: RedisRecorded;
}

/** A machine in a process and a network namespace of its own. */
function inMachine(job: RedisJob): MachineServer {
  const argv = ['--net', process.execPath, '--import=tsx', MACHINE, JSON.stringify(job)];
  const child = spawn('unshare', argv, { stdio: ['pipe', 'pipe', 'inherit'] });
  const over = once(child, 'close');
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const answer = async <T>(what: string, limitMs = LIMIT_MS): Promise<T> => {
    const { value, done } = await within(limitMs, what, lines.next(), () => child.kill('SIGKILL'));
    if (done) throw new Error(`the process of the machine ended without an answer: ${what}`);
    return JSON.parse(value);
  };
  const server: MachineServer = {
    burst: (load) => {
      child.stdin.write(`${JSON.stringify(load)}\n`);
      return answer('a burst of requests');
    },
    end: async () => {
      child.stdin.end();
      if (job.log) server.recorded = await answer('reliving the recording', LIMIT_MS * job.replays);
      await within(LIMIT_MS, 'ending the machine', over, () => child.kill('SIGKILL'));
    },
  };
  return server;
}

/** The host's own redis-server in one namespace, its clients in another, and a relay of frames between. */
async function byRelay(argv: string[]): Promise<Server<{ speed: Speed }>> {
  const cable = await BadCable.lay('host', { seed: 1 });
  const [file, ...args] = cable.near.inside(argv) as [string, ...string[]];
  const server = spawn(file, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const over = once(server, 'close');
  const end = async () => {
    server.kill('SIGKILL');
    await over;
    await cable.cut();
  };
  try {
    await within(LIMIT_MS, 'starting redis-server', once(server.stdout, 'data'), () => server.kill());
  } catch (error) {
    await end();
    throw error;
  }
  server.stdout.resume();
  return {
    burst: async (load) => ({ speed: await benchmark(NEAR, load, (line) => cable.far.inside(line)) }),
    end,
  };
}

const many = (value: number) => (value >= 10 ? value.toFixed(0) : value.toFixed(2));
const medianOf = (values: number[]) => summarise(values).median;

/** What one load came to, a burst each. */
interface Taken {
  load: (typeof LOADS)[number];
  plain: RedisBurst[];
  recorded: RedisBurst[];
  relay: { speed: Speed }[];
}

function rowsOf({ load: { clients, limit }, plain, recorded, relay }: Taken): Row[] {
  const who = `${clients} client${clients > 1 ? 's' : ''}`;
  return COMMANDS.flatMap((command) => {
    const times = (bursts: { speed: Speed }[]) => bursts.map(({ speed }) => speed[command]);
    const row = (budget: string, peer: number[], most?: number): Row => ({
      budget,
      what: `redis ${command}, ${who}: time for a request`,
      ours: { unit: 'us', value: summarise(times(recorded)) },
      peer: { unit: 'us', value: summarise(peer) },
      ratio: summarise(ratios(times(recorded), peer)),
      ...(most && { limit: most }),
    });
    return [
      row('recorded / unrecorded', times(plain), 1 / 0.95),
      row('recorded / user-space relay', times(relay), limit),
    ];
  });
}

function noteOf({ load, plain, recorded }: Taken): string {
  const costs = Object.keys(recorded[0]?.perRequest ?? {}).map((name) => {
    const value = medianOf(recorded.map(({ perRequest }) => perRequest[name] as number));
    return `${many(value)} ${name}`;
  });
  const cpu = (bursts: RedisBurst[]) => bursts.map(({ cpuUs }) => cpuUs);
  const ratio = medianOf(ratios(cpu(recorded), cpu(plain)));
  return `redis, ${load.clients} clients, for each request, recorded: ${costs.join(', ')}; CPU time of the machine's process ${medianOf(cpu(recorded)).toFixed(1)} us, unrecorded ${medianOf(cpu(plain)).toFixed(1)} us, ratio ${ratio.toFixed(3)}.`;
}

function replayRows(recorded: RedisRecorded, recordMs: number): Row[] {
  const { events, eventBytes, inputBytes, replayMs } = recorded;
  const most = 1.1 * inputBytes + 8 * events;
  return [
    {
      budget: 'replay / record, network',
      what: 'redis, all of it: the replay against the time under load',
      ours: { unit: 'ms', value: summarise(replayMs) },
      peer: { unit: 'ms', value: recordMs },
      ratio: summarise(replayMs.map((ms) => ms / recordMs)),
      limit: 1,
    },
    {
      budget: 'log, bytes against 1.1 x input + 8 x events',
      what: `redis: ${events.toLocaleString('en')} events, ${inputBytes.toLocaleString('en')} B of frames in`,
      ours: { unit: 'B', value: eventBytes },
      peer: { unit: 'B', value: most },
      ratio: eventBytes / most,
      limit: 1,
    },
  ];
}

export const redis: Case = {
  name: 'redis',
  about:
    "redis-server under redis-benchmark: unrecorded, recorded, relived, and the host's by way of a relay",
  minutes: 4,
  run: async ({ pairs, quick, directory, progress, timer }) => {
    const argv = redisServer(directory);
    const plain = inMachine({ argv, replays: 0 });
    const recorded = inMachine({ argv, log: join(directory, 'redis.log'), replays: pairs });
    const servers: Record<'plain' | 'recorded' | 'relay', Server<{ speed: Speed }>> = {
      plain,
      recorded,
      relay: await byRelay(argv),
    };
    const all: Taken[] = [];
    let recordMs = 0;
    try {
      for (const { clients, requests, limit } of LOADS) {
        const load = { clients, requests: requests / (quick ? 10 : 1) };
        const taken: Taken = {
          load: { ...load, ...(limit && { limit }) },
          plain: [],
          recorded: [],
          relay: [],
        };
        const arm = (kind: keyof typeof servers) => async () => {
          const burst = await servers[kind].burst(load);
          (taken[kind] as { speed: Speed }[]).push(burst);
          const ms = ((burst.speed.SET + burst.speed.GET) * load.requests) / 1000;
          if (kind === 'recorded') recordMs += ms;
          return ms;
        };
        await inTurn(
          { plain: arm('plain'), recorded: arm('recorded'), relay: arm('relay') },
          {
            rounds: pairs * (quick ? 1 : BURSTS_PER_PAIR),
            timeUp: timer(LOADS.length),
            progress: (done, of) => progress(`redis, ${clients} clients: burst ${done} of ${of}`),
          },
        );
        all.push(taken);
      }
    } finally {
      for (const server of Object.values(servers)) await server.end();
    }
    if (!recorded.recorded?.equal) throw new Error('a replay diverged');
    return {
      rows: [...all.flatMap(rowsOf), ...replayRows(recorded.recorded, recordMs)],
      notes: all.map(noteOf),
    };
  },
};
