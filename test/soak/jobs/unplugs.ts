// A side of a pair on a network is killed at a random moment, under 50 clients of redis who write unique keys and
// remember what was acknowledged.
import { rmSync } from 'node:fs';
import { Random } from '../../helpers/random.js';
import { redisServer } from '../../helpers/redis-server.js';
import { type UnplugJob, unplugOnce } from '../../helpers/unplug.js';
import type { SoakContext, SoakResult } from '../job.js';

export const name = 'unplugs under 50 clients';

const UNPLUGS = 300;
const CLIENTS = 50;

interface Tally {
  done: number;
  acknowledged: number;
  missing: number;
  /** By victim: how long nobody was answered, and how long one client waited at most, each time. */
  service: Record<UnplugJob['victim'], number[]>;
  waits: Record<UnplugJob['victim'], number[]>;
  failures: string[];
}

const fresh = (): Tally => ({
  done: 0,
  acknowledged: 0,
  missing: 0,
  service: { primary: [], shadow: [] },
  waits: { primary: [], shadow: [] },
  failures: [],
});

/** Of times in ms: `p50 21, p90 33, p99 60, most 71 ms`. */
function distribution(times: number[]): string {
  const sorted = [...times].sort((a, b) => a - b);
  const at = (share: number) =>
    (sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN).toFixed(0);
  return `p50 ${at(0.5)}, p90 ${at(0.9)}, p99 ${at(0.99)}, most ${at(1)} ms`;
}

async function once(context: SoakContext, tally: Tally): Promise<void> {
  const seed = (context.seed + tally.done * 7919) >>> 0;
  const random = new Random(seed);
  rmSync(context.directory, { recursive: true, force: true });
  // Two times in three it is the primary.
  const victim = random.between(0, 2) > 0 ? 'primary' : 'shadow';
  const beforeMs = random.between(20, 1500);
  const argv = redisServer(context.directory);
  const { directory } = context;
  try {
    const report = await unplugOnce({ argv, directory, victim, clients: CLIENTS, beforeMs, afterMs: 400 });
    tally.acknowledged += report.acknowledged;
    tally.missing += report.missing;
    tally.service[victim].push(report.servicePauseMs);
    tally.waits[victim].push(report.longestWaitMs);
    if (report.missing > 0 || report.troubles.length > 0 || report.survivor !== 'status 0')
      throw new Error(
        `${report.missing} missing, survivor ${report.survivor}, ${report.troubles.join('; ')}`,
      );
  } catch (error) {
    const what = `seed ${seed}, ${victim} killed after ${beforeMs} ms: ${error instanceof Error ? error.message : error}`;
    tally.failures.push(what);
    context.say(`FAILED, ${what}`);
  }
  tally.done++;
}

export async function run(context: SoakContext): Promise<SoakResult> {
  const tally = Object.assign(fresh(), context.state) as Tally;
  Object.assign(context.state, tally);
  const wanted = Math.max(2, Math.round(UNPLUGS * context.scale));
  while (tally.done < wanted) {
    await once(context, tally);
    Object.assign(context.state, tally);
    context.save();
    if (tally.done % 20 === 0) context.say(`${tally.done} of ${wanted}`);
  }
  const many = (value: number) => value.toLocaleString('en');
  const lines = (['primary', 'shadow'] as const).map(
    (victim) =>
      `- ${victim} killed ${tally.service[victim].length} times: nobody answered for ${distribution(tally.service[victim])}; the client that waited longest: ${distribution(tally.waits[victim])}.`,
  );
  const text = [
    `${many(tally.done)} unplugs: ${many(tally.acknowledged)} writes acknowledged, ${many(tally.missing)} of them missing; ${tally.failures.length} runs with a lost write, a reset or a wrong end.`,
    '',
    ...lines,
    ...tally.failures.map((failure) => `- FAILED: ${failure}`),
    '',
    "A client whose request or answer was on its way then waits for its own kernel's retransmission, 200 ms or more.",
  ].join('\n');
  return { text, failed: tally.failures.length };
}
