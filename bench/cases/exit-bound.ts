/** Programs that leave the guest all the time: unrecorded, recorded, and relived. */
import type { Case, Row, Settings } from '../lib/case.js';
import { CpuTime } from '../lib/cpu-time.js';
import { calibrate, inTurn, ratios, summarise } from '../lib/measure.js';
import { answerLines, readClock, writeLines } from '../lib/programs.js';
import { Guest, type MachineRun, type Workload } from '../lib/workload.js';

const seconds = (samples: number[]) => ({
  unit: 's' as const,
  value: summarise(samples.map((ms) => ms / 1000)),
});

interface Kind {
  make: (amount: number) => Workload;
  first: number;
  what: (amount: number) => string;
}

const count = (amount: number) => amount.toLocaleString('en-US');

const KINDS: Kind[] = [
  {
    make: writeLines,
    first: 1000,
    what: (n) => `busybox dd, ${count(n)} lines to /dev/null, a write() each`,
  },
  {
    make: answerLines,
    first: 300,
    what: (n) => `busybox cat, ${count(n)} lines, each sent when the last was answered`,
  },
  { make: readClock, first: 10_000, what: (n) => `busybox awk, ${count(n)} readings of the clock` },
];

async function compare(
  { make, first, what }: Kind,
  settings: Settings,
): Promise<{ rows: Row[]; note: string }> {
  const { directory, pairs, progress, runMs, timer } = settings;
  const timeUp = timer(KINDS.length);
  const { name } = make(first);
  progress(`exits: how much ${name} is ${runMs / 1000} s`);
  const amount = await calibrate(first, runMs * 1.15, async (some) => {
    const guest = await Guest.prepare(make(some), directory);
    return (await guest.run()).ms;
  });
  const guest = await Guest.prepare(make(amount), directory);
  const last: MachineRun = await guest.record();
  const spent = new CpuTime();
  const { unrecorded, recorded, replayed } = await inTurn(
    {
      unrecorded: () => spent.wall('unrecorded', guest.run()),
      recorded: () => spent.wall('recorded', guest.record()),
      replayed: () => spent.wall('replayed', guest.replay()),
    },
    {
      rounds: pairs,
      timeUp,
      progress: (done, of) => progress(`exits: ${name}, run ${done} of ${of}`),
    },
  );
  const perExit = (samples: number[]) => ((summarise(samples).median * 1000) / last.stats.exits).toFixed(1);
  const rows: Row[] = [
    {
      budget: 'recorded / unrecorded, exit-bound',
      what: what(amount),
      ours: seconds(recorded),
      peer: seconds(unrecorded),
      ratio: summarise(ratios(recorded, unrecorded)),
      limit: 1.1,
    },
    {
      budget: 'replay / record, exit-bound',
      what: what(amount),
      ours: seconds(replayed),
      peer: seconds(recorded),
      ratio: summarise(ratios(replayed, recorded)),
      limit: 1,
    },
  ];
  const note = `${name}: ${count(last.stats.exits)} exits and ${count(last.stats.events)} events; one exit with all that belongs to it takes ${perExit(unrecorded)} us unrecorded, ${perExit(recorded)} us recorded, ${perExit(replayed)} us relived. By CPU time: recorded / unrecorded ${spent.ratio('recorded', 'unrecorded')}, replay / record ${spent.ratio('replayed', 'recorded')}.`;
  return { rows, note };
}

export const exitBound: Case = {
  name: 'exits',
  about: 'exit-bound: recorded against unrecorded, replay against record',
  minutes: 4.4,
  run: async (settings) => {
    const rows: Row[] = [];
    const notes: string[] = [];
    for (const kind of KINDS) {
      const one = await compare(kind, settings);
      rows.push(...one.rows);
      notes.push(one.note);
    }
    return { rows, notes };
  },
};
