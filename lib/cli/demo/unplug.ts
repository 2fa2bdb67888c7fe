/**
 * Three hosts. A mail server runs in a machine on A and is shadowed on B; users at C send mail. A is unplugged. What was
 * acknowledged must be in the mailbox, once, and no user may have lost its connection.
 */
import { join } from 'node:path';
import { LockstepError } from '../../errors.js';
import { monotonicUs } from '../../events.js';
import { invalid } from '../../options.js';
import { count } from '../report.js';
import { runLockstep } from './children.js';
import { Hosts } from './hosts.js';
import { MAILBOX, type Mail, PORT } from './mail.js';
import { greeting, HUNG_MS, MACHINE, type Pair, packServer, Sides, startPair } from './mail-pair.js';
import { judgeMailbox } from './mailbox.js';
import { Panel } from './panel.js';
import { explainPause, milliseconds } from './pause.js';
import { replayLogs } from './replay-logs.js';
import type { Screen } from './screen.js';
import { Users } from './users.js';

export interface UnplugFlags {
  users: number;
  mails: number;
}

const TICK_MS = 250;
/** Without a terminal there is a line a second. */
const TICKS_PER_LINE = 4;

/** Ends what was started, the last first; the story and an interruption may both ask for it. */
class Cleanup {
  readonly #ends: (() => Promise<unknown>)[] = [];

  add(end: () => Promise<unknown>): void {
    this.#ends.push(end);
  }

  async run(): Promise<void> {
    for (let end = this.#ends.pop(); end; end = this.#ends.pop()) await end();
  }
}

/** kill -9, and the cable out. Returns when it was. */
function unplug(hosts: Hosts, { primary, shadow }: Pair, screen: Screen): number {
  const { pid } = primary;
  hosts.unplug('A');
  const killedUs = primary.kill();
  screen.step(`  >>> A is unplugged: its cable out, and kill -9 ${pid} <<<`);
  shadow.notice('live').then(
    () => screen.step(`  >>> B is live: process ${shadow.pid}, the shadow <<<`),
    () => {},
  );
  return killedUs;
}

/** Shows how it goes until every user has sent its mail; A is unplugged when half of it is acknowledged, some of it to each. */
async function watch(hosts: Hosts, pair: Pair, users: Users, panel: Panel, screen: Screen): Promise<number> {
  let killedUs = 0;
  let answeredMs = performance.now();
  users.on('answer', () => {
    answeredMs = performance.now();
    if (killedUs > 0 || users.acknowledged < users.mails / 2 || !users.allServed) return;
    killedUs = unplug(hosts, pair, screen);
    panel.unplugged = 'A';
  });
  let ticks = 0;
  let ticker: NodeJS.Timeout | undefined;
  const hung = new Promise<never>((_resolve, reject) => {
    ticker = setInterval(() => {
      if (screen.isTerminal) screen.status(...panel.lines(users));
      else if (++ticks % TICKS_PER_LINE === 0) screen.line(panel.line(users));
      if (performance.now() - answeredMs > HUNG_MS)
        reject(new LockstepError('ERR_LOCKSTEP_STATE', 'the users are not served any more'));
    }, TICK_MS);
  });
  try {
    await Promise.race([users.ended, hung]);
  } finally {
    clearInterval(ticker);
    users.removeAllListeners('answer');
    screen.clear();
  }
  return killedUs;
}

/** The mailbox, out of the machine as it runs on B, against what the users were told. */
async function checkMailbox(
  users: Users,
  directory: string,
  screen: Screen,
  over: AbortSignal,
): Promise<string[]> {
  const copy = join(directory, 'mail');
  const control = join(directory, 'shadow.control');
  screen.step(
    'Reading the mailbox out of the machine on B: lockstep cp -r --control shadow.control /mail mail',
  );
  const { status, stderr } = await runLockstep(['cp', '-r', '--control', control, MAILBOX, copy], over);
  if (status !== 0) return [`the mailbox cannot be read: ${stderr.trim()}`];
  const { messages, wrong } = judgeMailbox(copy, users.acknowledgedTo);
  if (wrong.length > 0) return wrong;
  screen.line(
    `  ${count(users.acknowledged, 'mail')} acknowledged with 250, as smtp-source shows each reply (-v)`,
  );
  screen.line(
    `  ${count(messages, 'mail')} in the mailbox: each acknowledged one once (sender and number), and no other`,
  );
  screen.line(`  ${count(users.count, 'connection')}, one a user, from its first mail to its last (X-Peer)`);
  return [];
}

function explainWaits(killedUs: number, { shadow }: Pair, users: Users, screen: Screen): string[] {
  const liveUs = shadow.first.get('live')?.timeUs;
  const resumedUs = liveUs === undefined ? undefined : users.firstAnswerUs(liveUs);
  if (resumedUs === undefined) return ['no user was answered after A was unplugged'];
  screen.step('The pause, from kill -9 to the next mail acknowledged');
  for (const line of explainPause(killedUs, shadow.first, resumedUs)) screen.line(line);
  const { nobodyUs, medianUs, longestUs } = users.waits(killedUs, resumedUs);
  screen.step('The pause as the users saw it, from a mail acknowledged by A to the next, by B');
  screen.line(`  ${milliseconds(medianUs)}  for the median user`);
  screen.line(`  ${milliseconds(longestUs)}  for the one who waited longest`);
  screen.line(`  ${milliseconds(nobodyUs)}  at most in which nobody was answered`);
  return [];
}

/** The machine gets a new shadow, on the host that was unplugged, while it runs. What was off. */
async function protectAgain(
  hosts: Hosts,
  sides: Sides,
  { shadow: live }: Pair,
  screen: Screen,
): Promise<string[]> {
  screen.step('A is plugged in again, and B takes a new shadow there, without stopping');
  hosts.plug('A');
  const begunUs = monotonicUs();
  const successor = sides.start('shadow', 'successor', 'A');
  const armed = await successor.notice('armed');
  const sent = live.first.get('state-sent')?.detail;
  screen.line(`  A: the shadow, process ${successor.pid}; B: the primary, process ${live.pid}`);
  screen.line(
    `  ${milliseconds((armed.timeUs as number) - begunUs)}  until it stood by${sent ? `: ${sent}` : ''}`,
  );
  // Who is asked to stop does not stop the machine: it goes on where its shadow is.
  live.stop();
  await successor.notice('live');
  successor.stop();
  const ended = [await live.end(), await successor.end()];
  return ended.every((how) => how === 'status 143')
    ? []
    : [`asked to stop, B and A ended with ${ended.join(' and ')}`];
}

async function tell(
  flags: UnplugFlags,
  mail: Mail,
  directory: string,
  screen: Screen,
  cleanup: Cleanup,
  over: AbortSignal,
): Promise<string[]> {
  screen.step('Packing an unmodified mail server');
  const image = await packServer(mail, directory, screen);
  over.throwIfAborted();

  screen.step('Making three hosts, joined by a switch');
  const hosts = await Hosts.make(['A', 'B', 'C'], ['A', 'B']);
  cleanup.add(() => hosts.close());
  over.throwIfAborted();
  const sides = new Sides(hosts, directory, (side) =>
    cleanup.add(async () => {
      if (side.exited === undefined) side.kill();
      await side.end();
    }),
  );
  const pair = await startPair(sides, image);
  const { primary, shadow } = pair;
  const [a, b, c] = [hosts.host('A'), hosts.host('B'), hosts.host('C')];
  screen.line(`  A, ${a.address}: the primary, process ${primary.pid}`);
  screen.line(`  B, ${b.address}: its shadow, process ${shadow.pid}`);
  screen.line(`  C, ${c.address}: the users of ${MACHINE}, which is the machine`);
  screen.line(`  it answers: ${await greeting(hosts, over)}`);

  screen.step(
    `${count(flags.users, 'user')} send ${flags.mails} mails each over a connection of their own (postfix's smtp-source)`,
  );
  const users = new Users(c, mail, `${MACHINE}:${PORT}`, flags.users, flags.mails);
  cleanup.add(() => users.kill());
  const panel = new Panel(
    [
      { host: a, side: primary },
      { host: b, side: shadow },
    ],
    c,
  );
  const killedUs = await watch(hosts, pair, users, panel, screen);
  over.throwIfAborted();
  if (users.troubles.length > 0) return users.troubles;
  const wrong = explainWaits(killedUs, pair, users, screen);

  wrong.push(...(await checkMailbox(users, directory, screen, over)));
  wrong.push(...(await protectAgain(hosts, sides, pair, screen)));
  wrong.push(...(await replayLogs(directory, ['primary.log', 'shadow.log', 'successor.log'], screen, over)));
  return wrong;
}

/** What was off, in one sentence each. */
export async function unplugDemo(
  flags: UnplugFlags,
  mail: Mail,
  directory: string,
  screen: Screen,
  over: AbortSignal,
): Promise<string[]> {
  if (flags.users < 1 || flags.mails < 2)
    throw invalid('the demo takes at least one user, who sends at least two mails');
  const cleanup = new Cleanup();
  over.addEventListener('abort', () => void cleanup.run());
  try {
    return await tell(flags, mail, directory, screen, cleanup, over);
  } finally {
    await cleanup.run();
  }
}
