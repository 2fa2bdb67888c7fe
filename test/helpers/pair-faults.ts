// The ways in which a pair is broken, each as a function of a random generator. The tests run a few of each
// kind, the soak many. A scenario throws when anything is off and returns what was seen.
import { renameSync, rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { corruptByte, corruptText } from './guest-memory.js';
import { patience } from './pace.js';
import { type PairSettings, PairUnderTest, type Verdict } from './pair.js';
import type { SideChild } from './pair-child.js';
import { FLOOD_LOAD, LEDGER_LOAD, LOADS, MARKER, type PairLoad, SEQ_LOAD, TALKS } from './pair-loads.js';
import type { Random } from './random.js';

export interface Seen extends Verdict {
  /** What was done, for the log. */
  what: string;
  /** Whether the fault was met before the program's end. */
  struck: boolean;
}

export type Scenario = (random: Random) => Promise<Seen>;

const SILENCE_MS = patience(1000);

/** The pairs of scenarios that broke off: nothing of theirs may stay behind. */
const opened = new Set<PairUnderTest>();

let common: Partial<PairSettings> = {};

/** What every pair of this process has, where a scenario does not say otherwise. */
export function forAllPairs(settings: Partial<PairSettings>): void {
  common = settings;
}

export async function open(settings: PairSettings): Promise<PairUnderTest> {
  const pair = await PairUnderTest.start({ ...common, ...settings });
  opened.add(pair);
  return pair;
}

export async function closeAll(): Promise<void> {
  await Promise.all([...opened].map((pair) => pair.close()));
  opened.clear();
}

export function must(condition: boolean, pair: PairUnderTest, what: string): void {
  if (!condition) throw new Error(`${what}\n${pair.story()}`);
}

/** Exactly one of the two claimed the next generation; the other found itself fenced. */
export function mustBeOne(pair: PairUnderTest): 'primary' | 'shadow' {
  const { primary, shadow } = pair;
  const winners = [primary, shadow].filter((side) => side.has('claim-won'));
  must(winners.length === 1, pair, `${winners.length} sides won the generation`);
  const [loser] = [primary, shadow].filter((side) => side !== winners[0]) as [SideChild];
  // One that had delivered everything ended on purpose, and could not tell the other.
  const done = !loser.has('claiming') && loser.exited === 'status 0';
  const fenced = loser.has('fenced') && loser.exited === 'status 125';
  must(fenced || done, pair, `the ${loser.name} was not fenced`);
  must(!loser.has('live') && !loser.has('alone'), pair, `the ${loser.name} went on although fenced`);
  return (winners[0] as SideChild).name;
}

// ---- kills by event number ----------------------------------------------------------------------

interface Reference {
  events: number;
  frameBytes: number;
}
const NO_EVENTS: Reference = { events: 1, frameBytes: 0 };
const references = new Map<string, Promise<Reference>>();

/** How many events and log bytes a run of this load makes when nobody disturbs it. */
function reference(load: PairLoad, random: Random): Promise<Reference> {
  let known = references.get(load.name);
  if (!known) {
    known = (async () => {
      const pair = await open({ load, random });
      await pair.feed();
      const { events, logBytes } = await pair.judge();
      return { events: events.primary, frameBytes: logBytes.primary - pair.headerBytes };
    })();
    references.set(load.name, known);
  }
  return known;
}

/** kill -9 of one side at an event number chosen among all of a run's. */
export function killAtAnyEvent(side: 'primary' | 'shadow', load?: PairLoad): Scenario {
  return async (random) => {
    const chosen = load ?? random.pick(LOADS);
    // A program without input puts out all it has within an event or two.
    const { events, frameBytes } = chosen.lines > 0 ? await reference(chosen, random) : NO_EVENTS;
    const target = random.between(1, events);
    const pair = await open({ load: chosen, random });
    const victim = pair[side];
    const fed = pair.feed();
    if (chosen.lines > 0) await pair.untilLogged('primary', Math.floor((frameBytes * target) / events));
    else await pair.untilLines(random.between(0, 190_000));
    // Anywhere in what the event sets off.
    const spin = performance.now() + random.next() * 2;
    while (performance.now() < spin);
    const struck = victim.exited === undefined;
    const asleep = random.next() < 0.3;
    if (asleep) pair.client.stdout.pause();
    victim.signal('SIGKILL');
    if (asleep) {
      // A reader that takes nothing for a while: all of it must be kept for it.
      await sleep(random.between(50, 300));
      pair.client.stdout.resume();
    }
    await fed;
    const verdict = await pair.judge();
    const what = `kill -9 ${side} near event ${target} of ${events}`;
    return { ...verdict, what, struck: struck && victim.exited === 'SIGKILL' };
  };
}

// ---- kills at fault points ----------------------------------------------------------------------

const WRITES = ['log-write', 'link-write', 'output', 'ack-received', 'ack-used'] as const;
const ACKS = ['log-write', 'ack-before-send', 'ack-after-send'] as const;
export type PrimaryPlace = (typeof WRITES)[number];
export type ShadowPlace = (typeof ACKS)[number];
export const PRIMARY_PLACES: readonly PrimaryPlace[] = WRITES;
export const SHADOW_PLACES: readonly ShadowPlace[] = ACKS;

/** With events enough for a late pass. */
const longer = (load: PairLoad): PairLoad => (load === FLOOD_LOAD ? load : { ...load, lines: 120 });

/** One side dies in the middle of its everyday work; the other goes on. */
export function dieAtWork(side: 'primary' | 'shadow', place: PrimaryPlace | ShadowPlace): Scenario {
  return async (random) => {
    const load = longer(random.pick([...TALKS, FLOOD_LOAD]));
    const pass = random.between(2, load === FLOOD_LOAD ? 8 : 30);
    const fault = { [`${side}Fault`]: `${place}:${pass}` };
    // The shadow acknowledges heartbeats too: it may die before it is armed, and then the pair does not start.
    const pair = await open({ load, random, ...fault, heartbeatMs: 200 });
    await pair.feed();
    const verdict = await pair.judge();
    return { ...verdict, what: `${side} dies at ${place}:${pass}`, struck: verdict[side] === 'SIGKILL' };
  };
}

/** One side stops in the middle of its everyday work, is taken for dead, and wakes when the other has gone on. */
export function stopAtWork(side: 'primary' | 'shadow', place: PrimaryPlace | ShadowPlace): Scenario {
  return async (random) => {
    const load = longer(random.pick([...TALKS, FLOOD_LOAD]));
    const pass = random.between(3, load === FLOOD_LOAD ? 8 : 30);
    const fault = { [`${side}Fault`]: `${place}:${pass}:stop` };
    const pair = await open({
      load,
      random,
      ...fault,
      heartbeatMs: 200,
      silenceMs: SILENCE_MS,
    });
    const sleeper = pair[side];
    const other = side === 'primary' ? pair.shadow : pair.primary;
    pair.taps[side].outlives = true;
    const fed = pair.feed();
    await sleeper.untilStopped();
    const asleep = sleeper.exited === undefined;
    // A shadow acknowledges before it writes: at its last frames the primary may have all it needs to end.
    const goesOn =
      asleep &&
      (await other.until('claim-won').then(
        () => true,
        () => false,
      ));
    if (goesOn) await pair.untilLines(pair.lines + random.between(0, 10) * load.answers);
    sleeper.signal('SIGCONT');
    await fed;
    const verdict = await pair.judge();
    if (goesOn) must(mustBeOne(pair) === other.name, pair, 'the sleeper won');
    else must(other.exited === 'status 0', pair, `the ${other.name} neither went on nor ended well`);
    return { ...verdict, what: `${side} stops at ${place}:${pass}`, struck: goesOn };
  };
}

export type ClaimPlace = 'claim-before-link' | 'claim-after-link' | 'claim-won' | 'live-output';
export const CLAIM_PLACES: readonly ClaimPlace[] = [
  'claim-before-link',
  'claim-after-link',
  'claim-won',
  'live-output',
];

/** The pass at which a side is in its takeover: a primary has claimed its first generation before. */
function takeoverPass(side: 'primary' | 'shadow', place: ClaimPlace, random: Random): number {
  if (place === 'live-output') return random.between(1, 3);
  return side === 'primary' && place.startsWith('claim-') && place !== 'claim-won' ? 2 : 1;
}

/**
 * One side is killed, and the other dies while it takes over. Nobody is left: what came must be a beginning of
 * the host's output. With `wakes` it only stops there for a while, and then all of it must come.
 */
export function failAtTakeover(side: 'primary' | 'shadow', place: ClaimPlace, wakes: boolean): Scenario {
  return async (random) => {
    const load = place === 'live-output' ? random.pick([FLOOD_LOAD, SEQ_LOAD]) : random.pick(TALKS);
    const pass = takeoverPass(side, place, random);
    const fault = { [`${side}Fault`]: `${place}:${pass}${wakes ? ':stop' : ''}` };
    const pair = await open({ load, random, ...fault });
    const heir = pair[side];
    const victim = side === 'primary' ? pair.shadow : pair.primary;
    const fed = pair.feed();
    if (load.lines > 0) await pair.untilLines(random.between(1, load.lines - 25) * load.answers);
    else await pair.untilLines(random.between(1, 150_000));
    victim.signal('SIGKILL');
    if (wakes) await heir.untilStopped();
    else await heir.end();
    const met = wakes ? heir.exited === undefined : heir.exited === 'SIGKILL';
    if (wakes && met) {
      await sleep(random.between(0, 1500));
      heir.signal('SIGCONT');
    }
    await fed;
    const verdict = await pair.judge(wakes || !met ? 'whole' : 'beginning');
    const struck = met && (wakes || verdict.output === 'beginning');
    const what = `${victim.name} killed, ${side} ${wakes ? 'stops' : 'dies'} at ${place}:${pass}`;
    return { ...verdict, what, struck };
  };
}

/** The link is cut with both alive, and one of them dies or stops in the claim. */
export function failAtClaimWithBothAlive(
  side: 'primary' | 'shadow',
  place: 'claim-before-link' | 'claim-after-link',
  wakes: boolean,
): Scenario {
  return async (random) => {
    const load = random.pick([...TALKS, FLOOD_LOAD]);
    const fault = { [`${side}Fault`]: `${place}:${side === 'primary' ? 2 : 1}${wakes ? ':stop' : ''}` };
    const pair = await open({ load, random, ...fault });
    const failing = pair[side];
    const other = side === 'primary' ? pair.shadow : pair.primary;
    for (const tap of [pair.taps.primary, pair.taps.shadow]) tap.outlives = wakes;
    const fed = pair.feed();
    await pair.untilLines(random.between(1, load.lines - 25) * load.answers);
    pair.link.cut();
    if (wakes) {
      await failing.untilStopped();
      await Promise.race([other.until('claim-won'), other.end()]).catch(() => {});
      failing.signal('SIGCONT');
    } else {
      await failing.end();
      await Promise.race([other.until('claim-won'), other.end()]).catch(() => {});
    }
    await fed;
    const alone = !wakes && !other.has('claim-won');
    if (place === 'claim-before-link') must(!alone, pair, 'a dead claim that was never made won');
    const verdict = await pair.judge(alone ? 'beginning' : 'whole');
    if (wakes) mustBeOne(pair);
    if (alone) must(other.has('fenced'), pair, `the ${other.name} did not lose`);
    const what = `link cut, ${side} ${wakes ? 'stops' : 'dies'} at ${place}`;
    return { ...verdict, what, struck: wakes || failing.exited === 'SIGKILL' };
  };
}

// ---- both alive ---------------------------------------------------------------------------------

/** The link is cut, or swallows everything, with both alive: exactly one goes on. */
export function cutLink(how: 'cut' | 'swallow'): Scenario {
  return async (random) => {
    const load = random.pick(LOADS);
    const pair = await open({ load, random, silenceMs: SILENCE_MS });
    for (const tap of [pair.taps.primary, pair.taps.shadow]) tap.outlives = true;
    const fed = pair.feed();
    if (load.lines > 0) await pair.untilLines(random.between(1, load.lines - 25) * load.answers);
    else await pair.untilLines(random.between(1, 150_000));
    if (how === 'cut') pair.link.cut();
    else pair.link.swallow();
    await fed;
    const verdict = await pair.judge();
    return { ...verdict, what: `link: ${how}; the ${mustBeOne(pair)} went on`, struck: true };
  };
}

/** SIGSTOP past the silence limit, then SIGCONT: the other one went on, and nothing wrong was put out. */
export function stopSide(side: 'primary' | 'shadow'): Scenario {
  return async (random) => {
    const load = random.pick(LOADS);
    const pair = await open({ load, random, silenceMs: SILENCE_MS });
    const sleeper = pair[side];
    const other = side === 'primary' ? pair.shadow : pair.primary;
    pair.taps[side].outlives = true;
    const fed = pair.feed();
    if (load.lines > 0) await pair.untilLines(random.between(1, load.lines - 25) * load.answers);
    else await pair.untilLines(random.between(1, 100_000));
    sleeper.signal('SIGSTOP');
    await other.until('claim-won');
    await pair.untilLines(pair.lines + random.between(0, 5) * load.answers);
    sleeper.signal('SIGCONT');
    await fed;
    const verdict = await pair.judge();
    must(mustBeOne(pair) === other.name, pair, 'the sleeper won');
    return { ...verdict, what: `${side} stopped past the silence limit`, struck: true };
  };
}

/** SIGSTOP within the silence limit: nothing happens. */
export function nap(side: 'primary' | 'shadow'): Scenario {
  return async (random) => {
    const load = random.pick(LOADS);
    const pair = await open({ load, random, silenceMs: 5000 });
    const fed = pair.feed();
    await pair.untilLines(load.lines > 0 ? random.between(1, load.lines - 25) * load.answers : 1000);
    pair[side].signal('SIGSTOP');
    await sleep(random.between(200, 1000));
    pair[side].signal('SIGCONT');
    await fed;
    const verdict = await pair.judge();
    mustBeQuiet(pair);
    return { ...verdict, what: `${side} stopped within the silence limit`, struck: true };
  };
}

// ---- what must change nothing -------------------------------------------------------------------

export function mustBeQuiet(pair: PairUnderTest): void {
  for (const side of [pair.primary, pair.shadow]) {
    for (const event of ['suspected', 'claiming', 'alone', 'live', 'fenced', 'diverged']) {
      must(!side.has(event), pair, `the ${side.name} said '${event}', and nothing had happened`);
    }
    must(side.exited === 'status 0', pair, `the ${side.name} ended with ${side.exited}`);
  }
}

/** JavaScript stands still for several silence limits in one side or both, while the guest answers. */
export function blockEventLoop(sides: readonly ('primary' | 'shadow')[], ms: number): Scenario {
  return async (random) => {
    const load = { ...random.pick(TALKS), lines: 200 };
    const pair = await open({ load, random, silenceMs: SILENCE_MS, api: true });
    await pair.feedPieces(5);
    for (const side of sides) pair[side].child.stdin?.write(`block ${patience(ms)}\n`);
    await Promise.all(sides.map((side) => pair[side].until('blocking')));
    const fed = pair.feed();
    await pair.untilLines(100);
    // The answers came while JavaScript stood still: they are none of its business.
    for (const side of sides) must(!pair[side].has('unblocked'), pair, 'the answers waited for JavaScript');
    await Promise.all(sides.map((side) => pair[side].until('unblocked')));
    await fed;
    const verdict = await pair.judge();
    mustBeQuiet(pair);
    return { ...verdict, what: `event loop of ${sides.join(' and ')} blocked for ${ms} ms`, struck: true };
  };
}

/** The arbiter's directory vanishes while the link is up. */
export const loseArbiter: Scenario = async (random) => {
  const load = random.pick(LOADS);
  const pair = await open({ load, random });
  rmSync(pair.at('arbiter'), { recursive: true });
  await pair.feed();
  const verdict = await pair.judge();
  mustBeQuiet(pair);
  return { ...verdict, what: 'arbiter gone, link up', struck: true };
};

/** No arbiter, and then one side is killed: the other stays silent until the arbiter is back. */
export function loseArbiterThen(side: 'primary' | 'shadow'): Scenario {
  return async (random) => {
    const load = random.pick(LOADS);
    const pair = await open({ load, random });
    const heir = side === 'primary' ? pair.shadow : pair.primary;
    const fed = pair.feed();
    await pair.untilLines(load.lines > 0 ? random.between(1, load.lines - 25) * load.answers : 1000);
    renameSync(pair.at('arbiter'), pair.at('away'));
    pair[side].signal('SIGKILL');
    await heir.until('arbiter-unreachable');
    const before = pair.taps[heir.name].left().length;
    await sleep(random.between(100, 600));
    // What a primary released before it lost its shadow may still be on its way; a shadow has said nothing yet.
    if (heir.name === 'shadow')
      must(pair.taps.shadow.left().length === before, pair, 'it spoke without leave');
    must(!heir.has('claim-won'), pair, 'it won without an arbiter');
    renameSync(pair.at('away'), pair.at('arbiter'));
    await fed;
    const verdict = await pair.judge();
    return { ...verdict, what: `arbiter gone, ${side} killed, arbiter back`, struck: true };
  };
}

// ---- divergence ---------------------------------------------------------------------------------

const UNUSED = 200 * (1 << 20);

/** The shadow's guest memory is changed from outside: it reports that, and the primary goes on alone. */
export function corruptShadow(where: 'text' | 'unused page'): Scenario {
  return async (random) => {
    const pair = await open({ load: LEDGER_LOAD, random, digestEvery: 3 });
    const fed = pair.feed();
    await pair.untilLines(random.between(5, 40));
    if (where === 'text') {
      const found = corruptText(pair.shadow.pid, MARKER, MARKER.toUpperCase());
      must(found > 0, pair, 'the marker is nowhere in guest memory');
    } else {
      // Far behind anything that this program ever touches: only a digest of all memory can see it.
      corruptByte(pair.shadow.pid, UNUSED + random.between(0, 4095));
    }
    await fed;
    const verdict = await pair.judge();
    const named = pair.shadow.noise.some((line) => /page 0x[0-9a-f]+ changed/.test(line));
    // A shadow that lags may find it only when its primary has ended well and needs it no more.
    const tooLate = pair.shadow.has('peer-ended');
    if (where === 'unused page') {
      // No digest of the primary's is wrong here: the shadow finds that its own memory changed behind its back.
      const page = pair.shadow.noise.some((line) => line.includes(`page 0x${UNUSED.toString(16)} changed`));
      must(pair.shadow.exited === 'status 125' && page, pair, 'the shadow did not name the page');
    } else {
      // So it does where the program came by the changed text no more.
      const found = pair.shadow.exited === 'status 1' || (pair.shadow.exited === 'status 125' && named);
      // Changed when all was compared already.
      const over = tooLate && pair.shadow.exited === 'status 0';
      must(found || over, pair, 'the shadow did not report a divergence');
      must(pair.shadow.has('diverged') || over, pair, 'the shadow did not tell of its divergence');
      must(tooLate || pair.primary.has('diverged'), pair, 'the primary was not told of the divergence');
      // Its last output may have left, and its end with it, before the arbiter had answered.
      must(tooLate || pair.primary.has('claiming'), pair, 'the primary did not go on alone');
    }
    must(pair.primary.exited === 'status 0', pair, 'the primary did not end well');
    return { ...verdict, what: `shadow corrupted: ${where}`, struck: !tooLate || where === 'unused page' };
  };
}
