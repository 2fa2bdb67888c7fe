/** One machine on hosts of its own, unplugged again and again under its clients: the soak's job (test/soak), in short. */
import test from 'ava';
import { printedRandom, scratch } from './helpers/command.js';
import { replayKicked } from './helpers/replays.js';
import { type Kind, UnplugChain, type Victim } from './helpers/unplug-chain.js';

/** Each kind, and either side. */
const UNPLUGS: [Kind, Victim][] = [
  ['kill', 'primary'],
  ['cut', 'primary'],
  ['both', 'primary'],
  ['cut', 'shadow'],
];

test('killed, cut off, and both, again and again: nothing is lost, and the machine has a shadow again each time', async (t) => {
  const random = printedRandom(t);
  const chain = await UnplugChain.start({
    directory: scratch(t),
    seed: random.seed,
    clients: 50,
    thinkMsMax: 20,
    // Whoever is suspected here is so because its host does not answer.
    options: ['--silence', '10000'],
  });
  try {
    t.deepEqual(await chain.stall(600), []);
    for (const [kind, victim] of UNPLUGS) {
      const report = await chain.unplug({ kind, victim, beforeMs: random.between(0, 500) });
      // Long before it is silent: its host does not even acknowledge.
      if (kind === 'cut') t.regex(report.suspicion, /host has acknowledged nothing for 200 ms/);
      t.log(
        `${victim}, ${kind}: nobody answered for ${report.servicePauseMs.toFixed(0)} ms, longest wait ${Math.max(...report.waitsMs).toFixed(0)} ms, protected again after ${report.joinMs.toFixed(0)} ms`,
      );
    }
    const { report, log } = await chain.finish();
    t.deepEqual(report.troubles, []);
    t.is(report.missing, 0);
    for (const one of await replayKicked(log, 1, random)) {
      t.is(one.divergence, null, JSON.stringify(one));
      t.is(one.status, 0);
    }
  } finally {
    await chain.end();
  }
});
