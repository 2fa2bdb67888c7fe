// Determinism: each program recorded once and replayed 50 times, with random kicks, on either core.
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Random } from '../../helpers/random.js';
import {
  onHost,
  ourProcessors,
  type ReplayJob,
  recordWorkload,
  replayOn,
  whatIsWrong,
} from '../../helpers/replays.js';
import { makeWorkloads, type Workload } from '../../helpers/workloads.js';
import type { SoakContext, SoakResult } from '../job.js';

export const name = 'Determinism';

const REPLAYS = 50;

interface Tally {
  replays: number;
  events: number;
  digests: number;
  kicks: number;
  failures: string[];
}

async function soakWorkload(
  workload: Workload,
  random: Random,
  directory: string,
  replays: number,
): Promise<Tally> {
  mkdirSync(directory, { recursive: true });
  const log = join(directory, 'x.log');
  const host = await onHost(workload);
  const recorded = await recordWorkload(workload, log, random);
  const tally: Tally = { replays: 0, events: recorded.events, digests: 0, kicks: 0, failures: [] };
  if (!recorded.stdout.equals(host.stdout))
    tally.failures.push('the recording has other output than the host');
  if (recorded.status !== host.status) tally.failures.push(`status ${recorded.status}, host ${host.status}`);

  const jobs: ReplayJob[] = Array.from({ length: replays }, (_, index) => ({
    log,
    stdout: join(directory, `${index}.out`),
    kicks: { perSecond: random.pick([0, 200, 2000, 10_000]), seed: random.between(0, 2 ** 31) },
  }));
  const cores = ourProcessors();
  const shares = [cores[0], cores.at(-1)].map((core, half) =>
    replayOn(
      core as number,
      jobs.filter((_, index) => index % 2 === half),
    ),
  );
  for (const report of (await Promise.all(shares)).flat()) {
    const wrong = whatIsWrong(report, recorded);
    if (wrong) tally.failures.push(`kicks ${JSON.stringify(report.kicks)}: ${wrong}`);
    tally.replays++;
    tally.digests += report.digests.checked;
    tally.kicks += report.kicked;
  }
  rmSync(directory, { recursive: true });
  return tally;
}

export async function run(context: SoakContext): Promise<SoakResult> {
  const tallies = context.state as Record<string, Tally>;
  const files = join(context.directory, 'files');
  rmSync(files, { recursive: true, force: true });
  const replays = Math.max(2, Math.round(REPLAYS * context.scale));
  const workloads = makeWorkloads(files);
  for (const [index, workload] of workloads.entries()) {
    if (tallies[workload.name]) continue;
    const random = new Random(context.seed + index);
    const directory = join(context.directory, String(index));
    try {
      tallies[workload.name] = await soakWorkload(workload, random, directory, replays);
    } catch (error) {
      const failures = [String(error)];
      tallies[workload.name] = { replays: 0, events: 0, digests: 0, kicks: 0, failures };
    }
    const { failures } = tallies[workload.name] as Tally;
    context.say(`${failures.length === 0 ? 'ok' : 'BAD'} ${workload.name} ${failures.join('; ')}`);
    context.save();
  }
  const rows = workloads.map((workload) => {
    const { replays, events, digests, kicks, failures } = tallies[workload.name] as Tally;
    return `| ${workload.name} | ${replays} | ${events} | ${digests} | ${kicks} | ${failures.length} |`;
  });
  const all = workloads.flatMap(({ name }) =>
    (tallies[name] as Tally).failures.map((one) => `- ${name}: ${one}`),
  );
  const text = [
    'Unmodified static Debian programs, recorded once with a digest at every event, replayed on either core',
    'and kicked at random moments; output and status are those of the same program on the host.',
    '',
    '| program | replays | events each | digests equal | kicks | failed |',
    '|---|---|---|---|---|---|',
    ...rows,
    '',
    ...all,
  ].join('\n');
  return { text, failed: all.length };
}
