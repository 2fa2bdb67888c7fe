import { readFileSync } from 'node:fs';
import { Arbiter } from '../arbiter.js';
import type { EtcdOptions } from '../arbiter-etcd.js';
import { LockstepError } from '../errors.js';
import type { PairEvents, PairNotice, PairNoticeName } from '../events.js';
import { invalid } from '../options.js';
import type { PairOptions, PairSide } from '../pair-side.js';
import { serveControl } from './control-server.js';
import type { PairFlags } from './options.js';
import { closingLine, reportError, say, sayEnd, statusOfEnd } from './report.js';
import { securityOptions } from './security.js';
import { SideWatch } from './side-report.js';

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
  'state-sent': 'the machine was sent to its new shadow',
  unread: 'nobody reads the console',
};

/** A password on the command line would be seen by everybody: it comes where etcdctl takes it from, too. */
function etcdOptions({ etcdCa, etcdCert, etcdKey }: PairFlags): Omit<EtcdOptions, 'endpoints'> {
  const { ETCDCTL_USER: user = '', ETCDCTL_PASSWORD: password } = process.env;
  const [, username = user, rest = ''] = /^([^:]*):(.*)$/s.exec(user) ?? [];
  const read = (path: string | undefined) => (path === undefined ? undefined : readText(path));
  const tls =
    etcdCa === undefined ? undefined : { ca: readText(etcdCa), cert: read(etcdCert), key: read(etcdKey) };
  if (!tls && (etcdCert ?? etcdKey) !== undefined)
    throw invalid('--etcd-cert and --etcd-key want --etcd-ca too');
  return { tls, auth: username ? { username, password: password ?? rest } : undefined };
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw invalid(`${path} cannot be read: ${(cause as Error).message}`);
  }
}

export function pairOptions(flags: PairFlags): PairOptions {
  const { link, relink, console, silence, cut, heartbeat, lag, unread } = flags;
  const arbiter = Arbiter.parse(flags.arbiter, etcdOptions(flags));
  const options = { link, relink, console, unread, arbiter };
  const lagBytesMax = lag === undefined ? undefined : lag * 1024;
  const security = securityOptions(flags, 'side');
  return { ...options, ...security, silenceMs: silence, cutMs: cut, heartbeatMs: heartbeat, lagBytesMax };
}

/** For programs: every notice, and ten times a second the status, as a line of JSON on stderr. */
function printJson(side: PairSide): NodeJS.Timeout {
  const print = (event: string, fields: object) =>
    process.stderr.write(`${JSON.stringify({ event, ...fields })}\n`);
  for (const name of Object.keys(NOTICES) as PairNoticeName[]) {
    side.on(name, ((notice: PairNotice) => print(name, notice)) as (
      ...args: PairEvents[typeof name]
    ) => void);
  }
  side.on('warning', (warning) => print('warning', warning));
  return setInterval(() => {
    if (side.machine.state === 'closed') return;
    const { events, logFileBytes, lsn } = side.stats();
    print('status', { events, lsn, logFileBytes, ...side.status() });
  }, STATUS_MS);
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

/** Runs one side to its end; the status to exit with. */
export async function runSide(
  side: PairSide,
  flags: PairFlags,
  startedAs: 'primary' | 'shadow',
): Promise<number> {
  const close = await serveOperator(side, flags, startedAs);
  try {
    return await runToEnd(side, flags);
  } finally {
    await close();
  }
}

async function runToEnd(side: PairSide, flags: PairFlags): Promise<number> {
  const ticker = flags.json ? printJson(side) : undefined;
  if (!flags.json) printText(side, flags);
  let asked: number | undefined;
  const stop = (status: number) => () => {
    asked = status;
    void side.close();
  };
  process.once('SIGINT', stop(130));
  process.once('SIGTERM', stop(143));
  try {
    await side.start();
    const ended = await side.ended;
    if (!flags.json) sayEnd(flags, ended);
    return asked ?? statusOfEnd(ended);
  } catch (error) {
    if (asked !== undefined) return asked;
    if (!(error instanceof LockstepError)) throw error;
    return reportError(error);
  } finally {
    clearInterval(ticker);
    const line = flags.json || side.machine.state === 'closed' ? '' : closingLine(side.stats());
    await side.close();
    if (line) say(flags, line);
  }
}
