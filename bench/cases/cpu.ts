/** Programs that only compute: on the host, in a machine, recorded, and relived. */
import type { Case, Row, Settings } from '../lib/case.js';
import { CpuTime } from '../lib/cpu-time.js';
import { calibrate, inTurn, ratios, summarise } from '../lib/measure.js';
import { awkLoop, sha256sum } from '../lib/programs.js';
import { Guest, timeOnHost, type Workload } from '../lib/workload.js';

const seconds = (samples: number[]) => ({
  unit: 's' as const,
  value: summarise(samples.map((ms) => ms / 1000)),
});

async function compare(
  make: (amount: number) => Workload,
  first: number,
  settings: Settings,
): Promise<{ rows: Row[]; note: string }> {
  const { directory, pairs, progress, runMs, timer } = settings;
  const timeUp = timer(2);
  const { name } = make(first);
  progress(`cpu: how much ${name} is ${runMs / 1000} s`);
  // More than asked for, so that no run falls below it.
  const amount = await calibrate(first, runMs * 1.15, (some) => timeOnHost(make(some)));
  const work = make(amount);
  const guest = await Guest.prepare(work, directory);
  await guest.record();
  const spent = new CpuTime();
  const taken = await inTurn(
    {
      host: () => timeOnHost(work),
      unrecorded: () => spent.wall('unrecorded', guest.run()),
      recorded: () => spent.wall('recorded', guest.record()),
      replayed: () => spent.wall('replayed', guest.replay()),
    },
    {
      rounds: pairs,
      timeUp,
      progress: (done, of) => progress(`cpu: ${name}, run ${done} of ${of}`),
    },
  );
  const { host, unrecorded, recorded, replayed } = taken;
  const what = `busybox ${name}, ${amount.toLocaleString('en-US')} ${name === 'sha256sum' ? 'x 16 MiB' : 'turns'}`;
  const note = `${name} by CPU time: recorded / unrecorded ${spent.ratio('recorded', 'unrecorded')}, replay / record ${spent.ratio('replayed', 'recorded')}.`;
  const rows: Row[] = [
    {
      budget: 'guest / host, CPU-bound',
      what,
      ours: seconds(unrecorded),
      peer: seconds(host),
      ratio: summarise(ratios(unrecorded, host)),
      limit: 1.1,
    },
    {
      budget: 'recorded / unrecorded, CPU-bound',
      what,
      ours: seconds(recorded),
      peer: seconds(unrecorded),
      ratio: summarise(ratios(recorded, unrecorded)),
      limit: 1.03,
    },
    {
      budget: 'replay / record, CPU-bound',
      what,
      ours: seconds(replayed),
      peer: seconds(recorded),
      ratio: summarise(ratios(replayed, recorded)),
      limit: 1,
    },
  ];
  return { rows, note };
}

export const cpu: Case = {
  name: 'cpu',
  about: 'CPU-bound: guest against host, recorded against unrecorded, replay against record',
  minutes: 4,
  run: async (settings) => {
    const both = [
      await compare((passes) => sha256sum(settings.directory, passes), 4, settings),
      await compare(awkLoop, 1_000_000, settings),
    ];
    return { rows: both.flatMap(({ rows }) => rows), notes: both.map(({ note }) => note) };
  },
};
