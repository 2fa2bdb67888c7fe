// A machine on a network of four hosts, either of whose sides is unplugged at a random moment again and again, under 50
// clients of redis who write unique keys, remember what was acknowledged, and keep their connections.
import { mkdirSync, rmSync } from 'node:fs';
import { Random } from '../../helpers/random.js';
import {
  type ChainReport,
  KINDS,
  type Kind,
  UnplugChain,
  VICTIMS,
  type Victim,
} from '../../helpers/unplug-chain.js';
import type { SoakContext, SoakResult } from '../job.js';

export const name = 'unplugs under 50 clients';

const UNPLUGS = 300;
const CLIENTS = 50;
/** Of one machine, one after the other. */
const CHAIN = 15;
/** With 50 clients some 2,000 writes a second: all keys of a chain fit into the guest's memory. */
const THINK_MS_MAX = 50;
/** A run that fails so often shows nothing new. */
const FAILURES_MAX = 5;

interface Measured {
  servicePauseMs: number[];
  /** Of each client, each time; and of the one that waited longest. */
  waitsMs: number[];
  longestWaitMs: number[];
  joinMs: number[];
  guestPauseMs: number[];
}

interface Tally {
  chains: number;
  done: number;
  acknowledged: number;
  measured: Record<string, Measured>;
  failures: string[];
}

const fresh = (): Tally => ({ chains: 0, done: 0, acknowledged: 0, measured: {}, failures: [] });
const called = (kind: Kind, victim: Victim) => `${victim}, ${kind}`;

function remember(tally: Tally, what: string, report: ChainReport): void {
  tally.measured[what] ??= {
    servicePauseMs: [],
    waitsMs: [],
    longestWaitMs: [],
    joinMs: [],
    guestPauseMs: [],
  };
  const measured = tally.measured[what] as Measured;
  measured.servicePauseMs.push(Math.round(report.servicePauseMs));
  measured.waitsMs.push(...report.waitsMs.map(Math.round));
  measured.longestWaitMs.push(Math.round(Math.max(...report.waitsMs)));
  measured.joinMs.push(Math.round(report.joinMs));
  measured.guestPauseMs.push(report.guestPauseMs);
  tally.done++;
}

/** One machine, and up to `count` unplugs of it. */
async function chain(context: SoakContext, tally: Tally, count: number): Promise<void> {
  const seed = (context.seed + tally.chains * 7919) >>> 0;
  const random = new Random(seed);
  const { directory } = context;
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  let story = 'the start';
  try {
    const machine = await UnplugChain.start({ directory, seed, clients: CLIENTS, thinkMsMax: THINK_MS_MAX });
    try {
      for (let unplug = 1; unplug <= count; unplug++) {
        const kind = random.pick(KINDS);
        const victim = random.pick(VICTIMS);
        const beforeMs = random.between(0, 1500);
        story = `unplug ${unplug}: ${called(kind, victim)} after ${beforeMs} ms`;
        remember(tally, called(kind, victim), await machine.unplug({ kind, victim, beforeMs }));
      }
      story = 'the end';
      const { acknowledged, missing, troubles } = (await machine.finish()).report;
      tally.acknowledged += acknowledged;
      if (missing > 0 || troubles.length > 0) throw new Error(`${missing} missing; ${troubles.join('; ')}`);
    } finally {
      await machine.end();
    }
  } catch (error) {
    const what = `seed ${seed}, ${story}: ${error instanceof Error ? error.message : error}`;
    tally.failures.push(what);
    context.say(`FAILED, ${what}`);
  }
  tally.chains++;
}

/** Of times in ms: `21 / 33 / 60 / 71`. */
function distribution(times: number[]): string {
  const sorted = [...times].sort((a, b) => a - b);
  return [0.5, 0.9, 0.99, 1]
    .map((share) => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? '-')
    .join(' / ');
}

export async function run(context: SoakContext): Promise<SoakResult> {
  const tally = Object.assign(fresh(), context.state) as Tally;
  Object.assign(context.state, tally);
  const wanted = Math.max(2, Math.round(UNPLUGS * context.scale));
  while (tally.done < wanted && tally.failures.length < FAILURES_MAX) {
    await chain(context, tally, Math.min(CHAIN, wanted - tally.done));
    Object.assign(context.state, tally);
    context.save();
    context.say(`${tally.done} of ${wanted}`);
  }
  const many = (value: number) => value.toLocaleString('en');
  const rows = VICTIMS.flatMap((victim) =>
    KINDS.flatMap((kind) => {
      const measured = tally.measured[called(kind, victim)];
      if (!measured) return [];
      const { servicePauseMs, waitsMs, longestWaitMs, joinMs, guestPauseMs } = measured;
      const cells = [servicePauseMs, waitsMs, longestWaitMs, joinMs, guestPauseMs].map(distribution);
      return [`| ${called(kind, victim)} | ${servicePauseMs.length} | ${cells.join(' | ')} |`];
    }),
  );
  const text = [
    `${many(tally.done)} unplugs of ${tally.chains} machines under ${CLIENTS} clients: ${many(tally.acknowledged)} writes were acknowledged and read back after the last unplug, those of each unplug also right after it; no connection was reset, each generation had one winner, and each time a new shadow stood by before the next. Failures: ${tally.failures.length}.`,
    'Link over TCP with TLS, etcd as the arbiter; hosts are network namespaces, with one cable each for link, clients and etcd, at a switch that learns: a shadow does not hear what is sent to its primary.',
    '',
    'ms, each p50 / p90 / p99 / most:',
    '',
    '| lost | times | nobody is answered | each client waits | the one that waits longest | a new shadow stands by | the guest stands still for it |',
    '|---|---|---|---|---|---|---|',
    ...rows,
    '',
    ...tally.failures.map((failure) => `- FAILED: ${failure.split('\n')[0]}`),
    '',
    "A client whose request or answer was on its way then waits for its own kernel's retransmission, 200 ms or more.",
  ].join('\n');
  return { text, failed: tally.failures.length };
}
