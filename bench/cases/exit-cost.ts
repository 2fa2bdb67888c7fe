/** What one exit costs: bare guests that do nothing else. */
import { type Image, Machine } from '../../lib/index.js';
import { clockLoop, outLoop } from '../lib/bare-guests.js';
import type { Case, Row } from '../lib/case.js';
import { CpuTime } from '../lib/cpu-time.js';
import { inTurn, ratios, summarise } from '../lib/measure.js';
import { Guest } from '../lib/workload.js';

const microseconds = (samples: number[]) => ({ unit: 'us' as const, value: summarise(samples) });

/** Microseconds an exit, with every access traced and each batch taken. */
async function traced(image: Image, exits: number): Promise<{ us: number; seen: number }> {
  const machine = await Machine.create(image, { stdin: 'ignore', stdout: 'ignore', stderr: 'ignore' });
  try {
    let seen = 0;
    // Traced from before the first instruction on.
    const trace = machine.trace({ exits: true });
    const first = trace.next();
    await machine.start();
    const begun = performance.now();
    const end = machine.ended.then(() => performance.now());
    for (let batch = await first; !batch.done; batch = await trace.next()) seen += batch.value.exits.length;
    return { us: (((await end) - begun) * 1000) / exits, seen };
  } finally {
    await machine.close();
  }
}

export const exitCost: Case = {
  name: 'exit',
  about: 'one exit: round trip, with an event, traced',
  minutes: 0.6,
  run: async ({ directory, pairs, progress, quick, timer }) => {
    const timeUp = timer(1);
    const exits = quick ? 20_000 : 60_000;
    const image = await outLoop(exits);
    const out = Guest.bare('out', image, directory);
    const clock = Guest.bare('clock', await clockLoop(exits), directory);
    const each = (ms: number) => (ms * 1000) / exits;
    const cpu = new CpuTime();
    let seen = 0;
    const taken = await inTurn(
      {
        plain: async () => each(await cpu.wall('plain', out.run())),
        unconfined: async () => each(await cpu.wall('unconfined', out.run({ sandbox: false }))),
        traced: async () => {
          const one = await traced(image, exits);
          seen = one.seen;
          return one.us;
        },
        recorded: async () => each((await out.record()).ms),
        clock: async () => each((await clock.run()).ms),
        clockRecorded: async () => each((await clock.record()).ms),
      },
      {
        rounds: pairs,
        timeUp,
        progress: (done, of) => progress(`exit: run ${done} of ${of}`),
      },
    );
    const { stats } = await clock.record();
    const rows: Row[] = [
      {
        budget: 'exit round trip',
        what: `bare guest, ${exits.toLocaleString('en-US')} x OUT to an empty port`,
        ours: microseconds(taken.plain),
      },
      {
        budget: 'exit, confined / unconfined',
        what: `the same, and with --no-sandbox; CPU time ${cpu.ratio('plain', 'unconfined')}`,
        ours: microseconds(taken.plain),
        peer: microseconds(taken.unconfined),
        ratio: summarise(ratios(taken.plain, taken.unconfined)),
      },
      {
        budget: 'exit, recorded / unrecorded',
        what: 'the same: accesses without an event',
        ours: microseconds(taken.recorded),
        peer: microseconds(taken.plain),
        ratio: summarise(ratios(taken.recorded, taken.plain)),
        limit: 1.1,
      },
      {
        budget: 'event, recorded / unrecorded',
        what: `bare guest that reads the clock: every exit an event, ${(stats.logEventBytes / stats.events).toFixed(1)} B in the log`,
        ours: microseconds(taken.clockRecorded),
        peer: microseconds(taken.clock),
        ratio: summarise(ratios(taken.clockRecorded, taken.clock)),
      },
      {
        budget: 'exit, traced / untraced',
        what: `every access traced, ${((100 * seen) / exits).toFixed(0)}% of them delivered as objects`,
        ours: microseconds(taken.traced),
        peer: microseconds(taken.plain),
        ratio: summarise(ratios(taken.traced, taken.plain)),
      },
    ];
    return { rows };
  },
};
