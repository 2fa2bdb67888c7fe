// Partitions between the two sides of a pair and etcd, and what each of them must do about it. Each scenario says
// who has to survive; PairUnderTest.judge() sees to it that nothing left either side that was not so.
import { setTimeout as sleep } from 'node:timers/promises';
import { EtcdHosts } from './etcd-hosts.js';
import type { PairUnderTest } from './pair.js';
import type { Fault } from './pair-fault-list.js';
import { forAllPairs, must, mustBeOne, mustBeQuiet, open, type Scenario } from './pair-faults.js';
import { LOADS, TALKS } from './pair-loads.js';
import type { Random } from './random.js';

type Side = 'primary' | 'shadow';
const other = (side: Side): Side => (side === 'primary' ? 'shadow' : 'primary');

let hosts: EtcdHosts;

/** Makes the hosts, on which every pair of this process runs from here on. */
export async function setUp(): Promise<void> {
  hosts = await EtcdHosts.make();
  forAllPairs({ arbiter: hosts.arbiter, inside: hosts.inside });
}

export async function tearDown(): Promise<void> {
  await hosts?.remove();
}

/** A pair at work, its clients' connections kept, so that whatever a loser says is heard. */
async function atWork(random: Random): Promise<{ pair: PairUnderTest; fed: Promise<void>; name: string }> {
  const load = { ...random.pick(TALKS), lines: 80 };
  const pair = await open({ load, random });
  for (const tap of [pair.taps.primary, pair.taps.shadow]) tap.outlives = true;
  const fed = pair.feed();
  await pair.untilLines(random.between(1, 40));
  return { pair, fed, name: load.name };
}

/** This side cannot ask anybody. What it had released before may still be on its way; then it says nothing more. */
async function mustBeSilent(pair: PairUnderTest, side: Side, random: Random): Promise<void> {
  await pair[side].until('arbiter-unreachable');
  await sleep(100);
  const before = pair.taps[side].left().length;
  await sleep(random.between(100, 800));
  must(pair.taps[side].left().length === before, pair, `the ${side} spoke without leave`);
  must(!pair[side].has('claim-won'), pair, `the ${side} won without the arbiter`);
}

/** One side is cut off from everything; the other one has etcd. */
function isolate(side: Side): Scenario {
  return async (random) => {
    const { pair, fed } = await atWork(random);
    pair.link.swallow();
    await hosts.unplug(side);
    try {
      await pair[other(side)].until('claim-won');
      await mustBeSilent(pair, side, random);
    } finally {
      await hosts.plugIn(side);
    }
    await pair[side].until('fenced');
    await fed;
    const verdict = await pair.judge();
    must(mustBeOne(pair) === other(side), pair, `the ${side} survived`);
    return { ...verdict, what: `${side} | ${other(side)} + etcd`, struck: true };
  };
}

/** The pair is together, and etcd is not there. */
const losesEtcd: Scenario = async (random) => {
  const load = random.pick(LOADS);
  const pair = await open({ load, random });
  await hosts.unplug('etcd');
  try {
    await pair.feed();
    const verdict = await pair.judge();
    mustBeQuiet(pair);
    return { ...verdict, what: 'primary + shadow | etcd', struck: true };
  } finally {
    await hosts.plugIn('etcd');
  }
};

/** All three are alone: nobody speaks, until one of them reaches etcd. */
const allApart: Scenario = async (random) => {
  const { pair, fed } = await atWork(random);
  const first = random.pick(['primary', 'shadow'] as const);
  await hosts.unplug('etcd');
  await hosts.unplug(other(first));
  pair.link.swallow();
  try {
    await Promise.all([mustBeSilent(pair, 'primary', random), mustBeSilent(pair, 'shadow', random)]);
    await hosts.plugIn('etcd');
    await pair[first].until('claim-won');
    must(!pair[other(first)].has('claim-lost'), pair, 'who is cut off cannot know');
  } finally {
    await hosts.plugIn('etcd');
    await hosts.plugIn(other(first));
  }
  await fed;
  const verdict = await pair.judge();
  must(mustBeOne(pair) === first, pair, `the ${first} reached etcd first, and did not survive`);
  return { ...verdict, what: `primary | shadow | etcd, the ${first} joined again`, struck: true };
};

/** etcd is killed and started again, with the pair together; then one side is killed. */
function restartThenKill(side: Side): Scenario {
  return async (random) => {
    const pair = await open({ load: { ...random.pick(TALKS), lines: 120 }, random });
    await pair.feedPieces(random.between(1, 10));
    await hosts.etcd.kill();
    // Without etcd it works on.
    await pair.feedPieces(random.between(5, 15));
    for (const each of [pair.primary, pair.shadow]) {
      must(!each.has('suspected') && each.exited === undefined, pair, 'the loss of etcd was felt');
    }
    await hosts.startEtcd();
    await pair.feedPieces(random.between(0, 5));
    pair[side].signal('SIGKILL');
    await pair.feed();
    const verdict = await pair.judge();
    const what = `etcd restarted, ${side} killed`;
    return { ...verdict, what, struck: pair[other(side)].has('claim-won') };
  };
}

/** etcd dies first, then a side; the other one waits until etcd is back, with what it knew. */
function killThenRestart(side: Side): Scenario {
  return async (random) => {
    const { pair, fed } = await atWork(random);
    // Both at once: what took its time could find the program at its end.
    hosts.etcd.signal('SIGKILL');
    pair[side].signal('SIGKILL');
    await hosts.etcd.kill();
    try {
      await mustBeSilent(pair, other(side), random);
    } finally {
      await hosts.startEtcd();
    }
    await fed;
    const verdict = await pair.judge();
    must(pair[other(side)].has('claim-won'), pair, `the ${other(side)} did not go on`);
    return { ...verdict, what: `etcd and ${side} killed, etcd back`, struck: true };
  };
}

/** etcd takes longer than a try may, so that answers are lost whose requests are carried out all the same. */
const answersLate: Scenario = async (random) => {
  const { pair, fed } = await atWork(random);
  hosts.etcd.signal('SIGSTOP');
  pair.link.cut();
  try {
    await Promise.all([mustBeSilent(pair, 'primary', random), mustBeSilent(pair, 'shadow', random)]);
  } finally {
    hosts.etcd.signal('SIGCONT');
  }
  await fed;
  const verdict = await pair.judge();
  return { ...verdict, what: `etcd stood still; the ${mustBeOne(pair)} went on`, struck: true };
};

/** One side is killed while the other's JavaScript stands still: it goes on all the same, at once. */
function killWhileBlocked(side: Side): Scenario {
  return async (random) => {
    const load = { ...random.pick(TALKS), lines: 200 };
    const pair = await open({ load, random, api: true });
    await pair.feedPieces(5);
    const heir = pair[other(side)];
    heir.child.stdin?.write('block 10000\n');
    await heir.until('blocking');
    pair[side].signal('SIGKILL');
    const fed = pair.feed();
    await pair.untilLines(120);
    must(!heir.has('unblocked'), pair, 'the takeover waited for JavaScript');
    await fed;
    const verdict = await pair.judge();
    must(heir.has('claim-won'), pair, `the ${heir.name} did not go on`);
    return { ...verdict, what: `${side} killed, ${heir.name} blocked`, struck: true };
  };
}

const named = (name: string, scenario: Scenario): Fault => ({ name, times: 20, scenario });

export const PARTITIONS: readonly Fault[] = [
  named('primary | shadow + etcd: the shadow survives', isolate('primary')),
  named('shadow | primary + etcd: the primary survives', isolate('shadow')),
  named('primary + shadow | etcd: nothing happens', losesEtcd),
  named('primary | shadow | etcd: nobody speaks, and the first to reach etcd survives', allApart),
];

export const ETCD_FAULTS: readonly Fault[] = [
  named('etcd restarted, then the primary killed', restartThenKill('primary')),
  named('etcd restarted, then the shadow killed', restartThenKill('shadow')),
  named('etcd and the primary killed, etcd restarted', killThenRestart('primary')),
  named('etcd and the shadow killed, etcd restarted', killThenRestart('shadow')),
  named('etcd stands still for several tries', answersLate),
  named('primary killed while the event loop of the shadow is blocked', killWhileBlocked('primary')),
  named('shadow killed while the event loop of the primary is blocked', killWhileBlocked('shadow')),
];
