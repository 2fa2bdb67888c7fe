/** Replays logs, one after the other, and prints one line of JSON for each: see replays.ts. */
import { closeSync, openSync } from 'node:fs';
import { replay } from '../../lib/index.js';
import type { ReplayJob, ReplayReport } from './replays.js';

for (const job of JSON.parse(process.argv[2] as string) as ReplayJob[]) {
  const stdout = openSync(job.stdout, 'w');
  const replaying = await replay(job.log, { stdout, kicks: job.kicks });
  closeSync(stdout);
  const { divergence, events, digests, ended } = await replaying.result;
  const { kicks } = replaying.machine.stats();
  await replaying.close();
  const report: ReplayReport = {
    ...job,
    divergence,
    events,
    digests,
    status: ended?.status ?? null,
    kicked: kicks,
  };
  console.log(JSON.stringify(report));
}
