/** redis-server in a machine, recorded and not, against the floor of every user-space VMM: a relay between two TAPs. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { BadCable, NEAR } from '../../test/helpers/bad-cable.js';
import { redisServer } from '../../test/helpers/redis-server.js';
import type { Case, Row } from '../lib/case.js';
import { inTurn, ratios, summarise, within } from '../lib/measure.js';
import { benchmark, type Load, type Speed } from '../lib/redis-loads.js';
import type { RedisJob, RedisOutcome } from '../lib/redis-machine.js';

const MACHINE = fileURLToPath(new URL('../lib/redis-machine.ts', import.meta.url));
const LIMIT_MS = 120_000;
/** Clients, requests of either command, and how much longer than by way of the relay one may take. */
const LOADS: (Load & { limit?: number })[] = [
  { clients: 50, requests: 100_000, limit: 1 / 0.6 },
  { clients: 10, requests: 50_000 },
  { clients: 1, requests: 10_000, limit: 1 / 0.3 },
];
const COMMANDS = ['SET', 'GET'] as const;

async function inMachine(job: RedisJob): Promise<RedisOutcome> {
  const argv = ['--net', process.execPath, '--import=tsx', MACHINE, JSON.stringify(job)];
  const { stdout } = await promisify(execFile)('unshare', argv, { timeout: LIMIT_MS });
  return JSON.parse(stdout);
}

/** The host's own redis-server in one namespace, its clients in another, and a relay of frames between. */
async function byRelay(argv: string[], loads: Load[]): Promise<Speed[]> {
  const cable = await BadCable.lay('host', { seed: 1 });
  const [file, ...args] = cable.near.inside(argv) as [string, ...string[]];
  const server = spawn(file, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const over = once(server, 'close');
  try {
    await within(LIMIT_MS, 'starting redis-server', once(server.stdout, 'data'), () => server.kill());
    server.stdout.resume();
    const speeds: Speed[] = [];
    for (const load of loads) speeds.push(await benchmark(NEAR, load, (line) => cable.far.inside(line)));
    return speeds;
  } finally {
    server.kill('SIGKILL');
    await over;
    await cable.cut();
  }
}

const many = (value: number) => (value >= 10 ? value.toFixed(0) : value.toFixed(2));

export const redis: Case = {
  name: 'redis',
  about:
    "redis-server under redis-benchmark: unrecorded, recorded, relived, and the host's by way of a relay",
  minutes: 4,
  run: async ({ pairs, quick, directory, progress, timer }) => {
    const loads = LOADS.map(({ clients, requests }) => ({ clients, requests: requests / (quick ? 10 : 1) }));
    const argv = redisServer(directory);
    const log = join(directory, 'redis.log');
    const taken = { plain: [] as Speed[][], recorded: [] as Speed[][], relay: [] as Speed[][] };
    const cpuUs = { plain: [] as number[][], recorded: [] as number[][] };
    const outcomes: RedisOutcome[] = [];
    const total = (speeds: Speed[]) =>
      speeds.reduce((sum, { SET, GET }, i) => sum + ((SET + GET) * (loads[i]?.requests ?? 0)) / 1000, 0);
    const machine = (kind: 'plain' | 'recorded') => async () => {
      rmSync(log, { force: true });
      const outcome = await inMachine({ argv, loads, ...(kind === 'recorded' && { log }) });
      const speeds = outcome.loads.map(({ speed }) => speed);
      taken[kind].push(speeds);
      cpuUs[kind].push(outcome.loads.map((load) => load.cpuUs));
      if (outcome.log) outcomes.push(outcome);
      return total(speeds);
    };
    const ms = await inTurn(
      {
        plain: machine('plain'),
        recorded: machine('recorded'),
        relay: async () => {
          const speeds = await byRelay(argv, loads);
          taken.relay.push(speeds);
          return total(speeds);
        },
      },
      { rounds: pairs, timeUp: timer(1), progress: (done, of) => progress(`redis: run ${done} of ${of}`) },
    );
    const rows: Row[] = [];
    for (const [i, { clients, limit }] of LOADS.entries()) {
      const who = `${clients} client${clients > 1 ? 's' : ''}`;
      for (const command of COMMANDS) {
        const of = (kind: keyof typeof taken) => taken[kind].map((speeds) => speeds[i]?.[command] as number);
        const row = (budget: string, ours: number[], peer: number[], most?: number) =>
          rows.push({
            budget,
            what: `redis ${command}, ${who}: time for a request`,
            ours: { unit: 'us', value: summarise(ours) },
            peer: { unit: 'us', value: summarise(peer) },
            ratio: summarise(ratios(ours, peer)),
            ...(most && { limit: most }),
          });
        row('recorded / unrecorded', of('recorded'), of('plain'), 1 / 0.95);
        row('recorded / user-space relay', of('recorded'), of('relay'), limit);
      }
    }
    const replays = outcomes.map(({ log }) => log?.replayMs as number);
    rows.push({
      budget: 'replay / record, network',
      what: 'redis, all of it: the replay against the time under load',
      ours: { unit: 'ms', value: summarise(replays) },
      peer: { unit: 'ms', value: summarise(ms.recorded) },
      ratio: summarise(ratios(replays, ms.recorded)),
      limit: 1,
    });
    const last = outcomes.at(-1) as RedisOutcome;
    const { events, eventBytes, inputBytes } = last.log as NonNullable<RedisOutcome['log']>;
    rows.push({
      budget: 'log, bytes against 1.1 x input + 8 x events',
      what: `redis: ${events.toLocaleString('en')} events, ${inputBytes.toLocaleString('en')} B of frames in`,
      ours: { unit: 'B', value: eventBytes },
      peer: { unit: 'B', value: 1.1 * inputBytes + 8 * events },
      ratio: eventBytes / (1.1 * inputBytes + 8 * events),
      limit: 1,
    });
    const unequal = outcomes.filter(({ log }) => !log?.equal).length;
    if (unequal > 0) throw new Error(`${unequal} of ${outcomes.length} replays diverged`);
    return {
      rows,
      notes: last.loads.map(({ perRequest }, i) => {
        const parts = Object.entries(perRequest).map(([name, value]) => `${many(value)} ${name}`);
        const cpu = (kind: 'plain' | 'recorded') =>
          summarise(cpuUs[kind].map((runs) => runs[i] as number)).median;
        const [plain, recorded] = [cpu('plain'), cpu('recorded')];
        return `redis, ${loads[i]?.clients} clients, for each request, recorded: ${parts.join(', ')}; CPU time of the machine's process ${recorded.toFixed(1)} us, unrecorded ${plain.toFixed(1)} us, ratio ${(recorded / plain).toFixed(3)}.`;
      }),
    };
  },
};
