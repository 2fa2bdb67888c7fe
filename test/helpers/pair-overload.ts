// What is too much for a pair for a while: a side that stands still, a link that is too slow. The pair stays correct meanwhile, and is
// protected again afterwards without anybody's help.
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { BadCable, NEAR } from './bad-cable.js';
import { patience } from './pace.js';
import { type PairUnderTest, run } from './pair.js';
import type { Fault } from './pair-fault-list.js';
import {
  blockEventLoop,
  closeAll,
  must,
  mustBeQuiet,
  open,
  type Scenario,
  type Seen,
} from './pair-faults.js';
import { FLOOD_LOAD, type PairLoad, TALKS } from './pair-loads.js';
import type { Random } from './random.js';

/** Feeds pieces, one every few milliseconds or `gapMs`, until `done` settles or there is no more. */
async function feedUntil(
  pair: PairUnderTest,
  random: Random,
  done: Promise<unknown>,
  gapMs = 2,
): Promise<void> {
  const deadline = Date.now() + patience(60_000);
  let over = false;
  const end = () => {
    over = true;
  };
  done.then(end, end);
  while (!over) {
    await pair.feedPieces(1);
    await sleep(gapMs + random.between(0, 18));
    if (Date.now() > deadline) throw new Error(`it hangs\n${pair.story()}`);
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
    const load = random.pick([...TALKS, FLOOD_LOAD]);
    // Each line of a flood is 150 of output: fewer of them, more slowly, last as long.
    const [lines, gapMs] = load === FLOOD_LOAD ? [900, 25] : [2500, 2];
    const pair = await open({ load: { ...load, lines }, random, rejoins: true });
    const feed = (done: Promise<unknown>) => feedUntil(pair, random, done, gapMs);
    const sleeper = pair[side];
    const other = side === 'primary' ? pair.shadow : pair.primary;
    await pair.feedPieces(random.between(1, 20));
    sleeper.signal('SIGSTOP');
    await feed(sleep(patience(ms)));
    must(other.has('claim-won'), pair, `the ${other.name} did not go on`);
    sleeper.signal('SIGCONT');
    await feed(sleeper.until('armed', 2));
    await feed(sleep(random.between(1, 500)));
    other.signal('SIGKILL');
    await feed(sleeper.until('live'));
    await keptLogReplays(pair, side);
    const verdict = await pair.judge();
    return { ...verdict, what: `${side} stopped for ${ms} ms, back, ${other.name} killed`, struck: true };
  };
}

/**
 * Computes for so long that it is stopped again and again, and each time all of its 40,000 numbers are others:
 * 300 KB of log, which nothing makes smaller, at any pace of the host.
 */
const CHANGING_LOAD: PairLoad = {
  name: 'lua, changing all it has',
  argv: [
    '/usr/bin/lua5.4',
    '-e',
    `math.randomseed(7)
     local numbers, n = {}, 0
     for line in io.lines() do
       for pass = 1, 100 do for i = 1, 40000 do numbers[i] = math.random() end end
       n = n + #line
       print(n, numbers[1])
       io.flush()
     end`,
  ],
  answers: 1,
  lines: 40,
  longest: 300,
};

/** A pair on two hosts with a slow line between them; clients reach both sides all the same. */
async function onSlowLine(
  random: Random,
  load: PairLoad,
  scenario: (pair: PairUnderTest, cable: BadCable) => Promise<Seen>,
): Promise<Seen> {
  const cable = await BadCable.lay('host', { seed: random.seed, delayMs: 20 });
  try {
    const { near, far } = cable;
    const pair = await open({
      load,
      random,
      rejoins: true,
      link: `tcp:${NEAR}:7000`,
      options: ['--insecure', '--lag', '1024', '--compress', random.pick(['auto', 'always', 'never'])],
      inside: { primary: (argv) => near.inside(argv), shadow: (argv) => far.inside(argv) },
    });
    return await scenario(pair, cable);
  } finally {
    await closeAll();
    await cable.cut();
  }
}

/** The pair goes at the line's pace, and as before when that is over. */
const tenMegabits: Scenario = (random) =>
  onSlowLine(random, CHANGING_LOAD, async (pair, cable) => {
    await pair.feedPieces(random.between(1, 5));
    cable.throttle(10_000);
    let most = 0;
    const watch = setInterval(() => {
      const { lsnSent = 0, lsnExecuted = 0 } = pair.primary.status as {
        lsnSent?: number;
        lsnExecuted?: number;
      };
      most = Math.max(most, lsnSent - lsnExecuted);
    }, 50);
    await feedUntil(pair, random, sleep(patience(8000)));
    clearInterval(watch);
    must(pair.primary.has('slowed'), pair, 'the line was not too slow');
    cable.throttle(0);
    const verdict = await pair.judge();
    mustBeQuiet(pair);
    return { ...verdict, what: `10 Mbit/s, 20 ms; at most ${most} events behind`, struck: true };
  });

/**
 * The line carries next to nothing: one side goes on alone, and has the other as its shadow when that is over. The
 * machine has something to do all the while, on the fastest of hosts.
 */
const nextToNothing: Scenario = (random) =>
  onSlowLine(random, { ...CHANGING_LOAD, lines: 110 }, async (pair, cable) => {
    await pair.feedPieces(random.between(1, 5));
    cable.throttle(100);
    const { primary, shadow } = pair;
    // Who wins is whose kernel finds the line silent first.
    const feed = (done: Promise<unknown>) => feedUntil(pair, random, done, 500);
    await feed(Promise.any([primary.until('claim-won'), shadow.until('claim-won')]));
    const [winner, loser] = primary.has('claim-won') ? [primary, shadow] : [shadow, primary];
    await feed(sleep(random.between(100, 2000)));
    cable.throttle(0);
    await feed(loser.until('armed', 2));
    await feed(sleep(random.between(1, 500)));
    winner.signal('SIGKILL');
    await feed(loser.until('live'));
    const verdict = await pair.judge();
    return { ...verdict, what: `100 kbit/s: the ${loser.name} lost, came back, and took over`, struck: true };
  });

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
  { name: 'a link of 10 Mbit/s with 20 ms of delay slows the primary', times: 20, scenario: tenMegabits },
  {
    name: 'a link that carries next to nothing parts the pair, which comes together by itself',
    times: 20,
    scenario: nextToNothing,
  },
  {
    name: 'both event loops blocked for ten seconds under load: nothing happens',
    times: 5,
    scenario: blockEventLoop(['primary', 'shadow'], 10_000),
  },
];
