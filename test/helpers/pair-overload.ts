// What is too much for a pair for a while: a side that stands still. The pair stays correct meanwhile, and is
// protected again afterwards without anybody's help.
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { patience } from './pace.js';
import { type PairUnderTest, run } from './pair.js';
import type { Fault } from './pair-fault-list.js';
import { must, open, type Scenario } from './pair-faults.js';
import { FLOOD_LOAD, TALKS } from './pair-loads.js';
import type { Random } from './random.js';

/** Feeds pieces, one every few milliseconds, until `done` settles or there is no more. */
async function feedUntil(pair: PairUnderTest, random: Random, done: Promise<unknown>): Promise<void> {
  let over = false;
  const end = () => {
    over = true;
  };
  done.then(end, end);
  while (!over) {
    await pair.feedPieces(1);
    await sleep(random.between(2, 20));
  }
  await done;
}

/** What a shadow wrote before it started over is kept, and is a recording like any other. */
async function keptLogReplays(pair: PairUnderTest, side: 'primary' | 'shadow'): Promise<void> {
  const log = `${pair.log(side)}.1`;
  must(existsSync(log), pair, 'the log of the first life is gone');
  const { status, stderr } = await run(['replay', '--quiet', log]);
  must(status === 0, pair, `the log of the first life does not replay: ${stderr}`);
}

/** One side is stopped for long, the other goes on; woken, it is its shadow, and then goes on in its place. */
function standStill(side: 'primary' | 'shadow', ms: number): Scenario {
  return async (random) => {
    const load = { ...random.pick([...TALKS, FLOOD_LOAD]), lines: 2500 };
    const pair = await open({ load, random, rejoins: true });
    const sleeper = pair[side];
    const other = side === 'primary' ? pair.shadow : pair.primary;
    await pair.feedPieces(random.between(1, 20));
    sleeper.signal('SIGSTOP');
    await feedUntil(pair, random, sleep(patience(ms)));
    must(other.has('claim-won'), pair, `the ${other.name} did not go on`);
    sleeper.signal('SIGCONT');
    await feedUntil(pair, random, sleeper.until('armed', 2));
    await feedUntil(pair, random, sleep(random.between(1, 500)));
    other.signal('SIGKILL');
    await feedUntil(pair, random, sleeper.until('live'));
    await keptLogReplays(pair, side);
    const verdict = await pair.judge();
    return { ...verdict, what: `${side} stopped for ${ms} ms, back, ${other.name} killed`, struck: true };
  };
}

export const OVERLOADS: readonly Fault[] = [
  {
    name: 'a shadow stopped for ten seconds is a shadow again by itself, and takes over',
    times: 20,
    scenario: standStill('shadow', 10_000),
  },
  {
    name: 'a primary that was taken over from comes back as a shadow, and takes over',
    times: 20,
    scenario: standStill('primary', 3000),
  },
];
