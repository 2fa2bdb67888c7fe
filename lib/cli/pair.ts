import { setTimeout as sleep } from 'node:timers/promises';
import { Arbiter } from '../arbiter.js';
import { serveControl } from '../control/control-server.js';
import { SideWatch } from '../control/side-report.js';
import { LockstepError } from '../errors.js';
import { type Ended, monotonicUs, type PairEvents, type PairNotice, type PairNoticeName } from '../events.js';
import { type PairOptions, PairSide } from '../pair-side.js';
import { etcdKeys } from './etcd.js';
import type { PairFlags } from './options.js';
import type { Life, NextLife, Rejoin } from './rejoin.js';
import { closingLine, reportError, say, sayEnd, statusOfEnd } from './report.js';
import { securityOptions } from './security.js';
import { become, type User } from './user.js';

const STATUS_MS = 100;

const NOTICES: Record<PairNoticeName, string> = {
  listening: 'listening',
  connected: 'the other side is there',
  armed: 'protected: a shadow stands by',
  'console-connected': 'a console client is there',
  'console-lost': 'the console client is gone',
  suspected: 'the other side is silent or gone',
  claiming: 'asking the arbiter',
  'arbiter-unreachable': 'the arbiter does not answer; staying silent',
  'claim-won': 'the arbiter says: this side goes on',
  'claim-lost': 'the arbiter says: the other side goes on',
  alone: 'going on alone, unprotected',
  live: 'live',
  'first-output': 'first output since going live',
  fenced: 'fenced off: the other side went on',
  diverged: 'the shadow went another way; unprotected',
  'peer-ended': 'the other side ended on purpose',
  slowed: 'slowed down: the shadow lags',
  dropped: 'the shadow lags too far: going on without it',
  'state-sent': 'the machine was sent to its new shadow',
  unread: 'nobody reads the console',
  resumed: 'the link came back',
  'join-lost': 'a shadow was lost before it stood by; waiting for another',
  unheard: 'the program ended, and nobody is at its console to hear of it',
};

export function pairOptions(flags: PairFlags): PairOptions {
  const { link, relink, console, silence, cut, grace, compress, heartbeat, lag, drop, unread } = flags;
  const arbiter = Arbiter.parse(flags.arbiter, etcdKeys(flags));
  const options = { link, relink, console, unread, arbiter };
  const lagBytesMax = lag === undefined ? undefined : lag * 1024;
  const security = securityOptions(flags, 'side');
  return {
    ...options,
    ...security,
    silenceMs: silence,
    cutMs: cut,
    graceMs: grace,
    compress,
    heartbeatMs: heartbeat,
    lagBytesMax,
    dropMs: drop,
  };
}

function printEvent(event: string, fields: object): void {
  process.stderr.write(`${JSON.stringify({ event, ...fields })}\n`);
}

/** For programs: every notice, and ten times a second the status, as a line of JSON on stderr; the last one says how it ended. */
function printJson(side: PairSide): NodeJS.Timeout {
  for (const name of Object.keys(NOTICES) as PairNoticeName[]) {
    side.on(name, ((notice: PairNotice) => printEvent(name, notice)) as (
      ...args: PairEvents[typeof name]
    ) => void);
  }
  side.on('warning', (warning) => printEvent('warning', warning));
  return setInterval(() => {
    if (side.machine.state === 'closed') return;
    const { events, logFileBytes, lsn } = side.stats();
    printEvent('status', { events, lsn, logFileBytes, ...side.status() });
  }, STATUS_MS);
}

function sayLast(flags: PairFlags, ended: Ended): void {
  if (flags.json) printEvent('ended', ended);
  else sayEnd(flags, ended);
}

function printText(side: PairSide, flags: PairFlags): void {
  for (const name of Object.keys(NOTICES) as PairNoticeName[]) {
    if (name === 'console-connected' || name === 'console-lost' || name === 'first-output') continue;
    side.on(name, (({ lsn, generation, detail }: PairNotice) => {
      say(flags, `${NOTICES[name]} (event ${lsn}, generation ${generation})${detail ? `: ${detail}` : ''}`);
    }) as (...args: PairEvents[typeof name]) => void);
  }
  side.on('warning', ({ detail }) => say(flags, detail));
}

/** Answers for a side: at its control socket, and to Prometheus. */
async function serveOperator(
  side: PairSide,
  flags: PairFlags,
  startedAs: 'primary' | 'shadow',
): Promise<() => Promise<void>> {
  const watch = new SideWatch(side, startedAs);
  const servers: { close(): Promise<void> }[] = [];
  const close = async () => {
    watch.close();
    await Promise.all(servers.map((server) => server.close()));
  };
  try {
    if (flags.control !== undefined) {
      const report = () => watch.report();
      servers.push(
        await serveControl(flags.control, side.machine, {
          refusal: () => whileShadow(side),
          report,
          handOver: () => side.handOver(),
        }),
      );
    }
    if (flags.metrics !== undefined) {
      const { serveMetrics } = await import('./metrics.js');
      const server = await serveMetrics(flags.metrics, side, watch);
      if (!flags.json) say(flags, `metrics at ${server.address}`);
      servers.push(server);
    }
  } catch (error) {
    await close();
    throw error;
  }
  return close;
}

/** What a machine is asked is an input of its own, and a shadow's machine gets its primary's. */
function whileShadow(side: PairSide): LockstepError | undefined {
  if (side.status()?.live) return undefined;
  return new LockstepError('ERR_LOCKSTEP_STATE', 'this side is a shadow, and answers only once it is live', {
    hint: "Ask at the primary's --control.",
  });
}

/** Runs a side to its end, and then, where it may rejoin its pair, all its lives as a shadow; the status to exit with. */
export async function runSide(
  side: PairSide,
  flags: PairFlags,
  startedAs: 'primary' | 'shadow',
  { user, rejoin }: { user?: User; rejoin?: Rejoin },
): Promise<number> {
  // A life may end before it has given up its rights; then the next one does.
  const again = rejoin !== undefined;
  let life = await runLife(side, flags, startedAs, { user, again });
  for (;;) {
    const next = rejoin?.after(life);
    if (!rejoin || !next) {
      if (life.error !== undefined && !life.asked) return reportError(life.error);
      return life.status;
    }
    life = await liveAgain(rejoin, next, flags, user);
  }
}

async function liveAgain(
  rejoin: Rejoin,
  next: NextLife,
  flags: PairFlags,
  user: User | undefined,
): Promise<Life> {
  const { delayMs, link, detail } = next;
  if (flags.json) printEvent('rejoining', { detail, delayMs, link, timeUs: monotonicUs() });
  else say(flags, `starting over as a shadow: ${detail}`);
  try {
    const side = await rejoin.shadow(next);
    if (side instanceof PairSide) return await runLife(side, flags, 'shadow', { user, again: true, delayMs });
    const ended: Ended = {
      ...side,
      detail: `the machine has ended meanwhile (${side.reason}, status ${side.status})`,
    };
    sayLast(flags, ended);
    return { status: statusOfEnd(ended), ended, asked: false, connected: false, logged: false };
  } catch (error) {
    return { status: 0, error, asked: false, connected: false, logged: false };
  }
}

/** One life of a side, with an operator who is answered from its beginning on. */
async function runLife(
  side: PairSide,
  flags: PairFlags,
  startedAs: 'primary' | 'shadow',
  { user, again, delayMs = 0 }: { user?: User; again: boolean; delayMs?: number },
): Promise<Life> {
  const close = await serveOperator(side, flags, startedAs).catch(async (error: unknown) => {
    await side.close();
    throw error;
  });
  // A shadow opens what it needs while it joins; a primary has it, and no guest runs yet.
  const start = async () => {
    if (startedAs === 'primary') become(user, flags, startedAs, again);
    await side.start();
    if (startedAs === 'shadow') become(user, flags, startedAs, again);
  };
  try {
    return await runToEnd(side, flags, start, delayMs);
  } finally {
    await close();
  }
}

async function runToEnd(
  side: PairSide,
  flags: PairFlags,
  start: () => Promise<void>,
  delayMs: number,
): Promise<Life> {
  const ticker = flags.json ? printJson(side) : undefined;
  if (!flags.json) printText(side, flags);
  const life: Life = { status: 0, asked: false, connected: false, logged: false };
  const stopped = new AbortController();
  const stop = (status: number) => () => {
    life.asked = true;
    life.status = status;
    stopped.abort();
    void side.close();
  };
  const [interrupted, terminated] = [stop(130), stop(143)];
  process.once('SIGINT', interrupted);
  process.once('SIGTERM', terminated);
  side.on('connected', () => {
    life.connected = true;
  });
  side.on('armed', () => {
    life.armedAt ??= performance.now();
  });
  try {
    await sleep(delayMs, undefined, { signal: stopped.signal });
    await start();
    life.ended = await side.ended;
    sayLast(flags, life.ended);
    if (!life.asked) life.status = statusOfEnd(life.ended);
  } catch (error) {
    if (!life.asked && !(error instanceof LockstepError)) throw error;
    life.error = error;
  } finally {
    process.off('SIGINT', interrupted);
    process.off('SIGTERM', terminated);
    clearInterval(ticker);
    const stats = side.machine.state === 'closed' ? undefined : side.stats();
    if (stats) life.pairId = side.status()?.pairId;
    life.logged = (stats?.logFileBytes ?? 0) > 0;
    const line = flags.json || !stats ? '' : closingLine(stats);
    await side.close();
    if (line) say(flags, line);
  }
  return life;
}
