// A TCP link that is reset while both sides live: it comes back, and nobody outside notices.
import { setTimeout as sleep } from 'node:timers/promises';
import { BadCable, NEAR } from './bad-cable.js';
import { patience } from './pace.js';
import type { PairUnderTest } from './pair.js';
import type { Fault } from './pair-fault-list.js';
import { closeAll, must, mustBeQuiet, open, type Scenario } from './pair-faults.js';
import { FLOOD_LOAD, type PairLoad, TALKS } from './pair-loads.js';
import type { Random } from './random.js';

/** Far more than a link needs to come back, on a machine with a lot else to do. */
const GRACE_MS = patience(10_000);

function openWith(random: Random, load: PairLoad, graceMs: number): Promise<PairUnderTest> {
  const options = ['--grace', String(graceMs)];
  return open({ load, random, firewall: true, silenceMs: patience(15_000), options });
}

const resets: Scenario = async (random) => {
  const load = { ...random.pick([...TALKS, FLOOD_LOAD]), lines: 400 };
  const pair = await openWith(random, load, GRACE_MS);
  const { firewall } = pair;
  const fed = pair.feed();
  let over = false;
  void fed.then(() => {
    over = true;
  });
  while (!over && firewall.resets < 30) {
    await sleep(random.between(1, 60));
    firewall.reset();
  }
  await fed;
  const verdict = await pair.judge();
  mustBeQuiet(pair);
  const back = [pair.primary, pair.shadow].filter((side) => side.has('resumed'));
  return { ...verdict, what: `${firewall.resets} resets`, struck: back.length === 2 };
};

/** A firewall that forgets without a word: only silence says so, of both sides' kernels. */
const swallowed: Scenario = async (random) => {
  const cable = await BadCable.lay('host', { seed: random.seed });
  try {
    const { near, far } = cable;
    const load = { ...random.pick(TALKS), lines: 200 };
    const pair = await open({
      load,
      random,
      silenceMs: patience(15_000),
      link: `tcp:${NEAR}:7000`,
      options: ['--insecure', '--grace', String(GRACE_MS), '--cut', String(patience(2000))],
      inside: { primary: (argv) => near.inside(argv), shadow: (argv) => far.inside(argv) },
    });
    const fed = pair.feed();
    await pair.untilLines(random.between(1, 100) * load.answers);
    cable.forget();
    await pair.shadow.until('resumed');
    await pair.primary.until('resumed');
    await fed;
    const verdict = await pair.judge();
    mustBeQuiet(pair);
    return { ...verdict, what: 'swallowed', struck: true };
  } finally {
    await closeAll();
    await cable.cut();
  }
};

/** The other side is gone for good, and a firewall answers for it. */
const resetAndKill =
  (side: 'primary' | 'shadow'): Scenario =>
  async (random) => {
    const load = random.pick(TALKS);
    const pair = await openWith(random, load, 300);
    const fed = pair.feed();
    await pair.untilLines(random.between(1, load.lines - 25) * load.answers);
    pair.firewall.reset();
    await sleep(random.between(0, 5));
    pair[side].signal('SIGKILL');
    await fed;
    const verdict = await pair.judge();
    const other = side === 'primary' ? pair.shadow : pair.primary;
    must(other.has('claim-won'), pair, `the ${other.name} did not go on`);
    return { ...verdict, what: `reset, then kill -9 ${side}`, struck: verdict[side] === 'SIGKILL' };
  };

export const RESETS: readonly Fault[] = [
  { name: 'resets of the link, again and again, pass unnoticed', times: 20, scenario: resets },
  {
    name: 'a link that a firewall swallows is tried anew before it is given up',
    times: 20,
    scenario: swallowed,
  },
  {
    name: 'a reset, and then the primary is killed before the link is back',
    times: 20,
    scenario: resetAndKill('primary'),
  },
  {
    name: 'a reset, and then the shadow is killed before the link is back',
    times: 20,
    scenario: resetAndKill('shadow'),
  },
];
