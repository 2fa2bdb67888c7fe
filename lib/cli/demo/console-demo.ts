import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { ConsoleClient, type ConsolePause } from '../../console-client.js';
import { SideProcess } from '../../control/side-process.js';
import { LockstepError } from '../../errors.js';
import { Image } from '../../image.js';
import { bytes, count } from '../report.js';
import { collect } from './children.js';
import { compareAnswers } from './judge.js';
import { explainPause } from './pause.js';
import { replayLogs } from './replay-logs.js';
import type { Screen } from './screen.js';

export interface ConsoleFlags {
  lines: number;
  rate: number;
}

const BUSYBOX = '/bin/busybox';
/** Reads a number a line, and answers each at once: a small ledger with state that must not be lost. */
const LEDGER = `{ total += $2; seen[$1] += $2
  printf "%4d  %-6s %+5d   %-6s %6d   all %7d   mean %9.3f\\n", NR, $1, $2, $1, seen[$1], total, total / NR
  fflush() }`;
const PROGRAM = [BUSYBOX, 'awk', LEDGER];
const NAMES = ['anna', 'boris', 'chloe', 'david', 'emma'];

/** The same lines every time: what the program makes of them is what matters. */
function makeInput(lines: number): string[] {
  let state = 2463534242;
  return Array.from({ length: lines }, () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return `${NAMES[(state >>> 0) % NAMES.length]} ${((state >>> 8) % 2001) - 1000}`;
  });
}

async function makeImage(directory: string, screen: Screen): Promise<string> {
  if (!existsSync(BUSYBOX)) {
    throw new LockstepError('ERR_LOCKSTEP_PROGRAM_NOT_FOUND', `${BUSYBOX} is not here`, {
      hint: 'apt-get install -y busybox-static',
    });
  }
  const image = await Image.fromProgram({ argv: PROGRAM });
  const path = join(directory, 'demo.image');
  await image.write(path, { force: true });
  const { manifest } = await image.inspect();
  const replaced = manifest.kind === 'program' ? manifest.sites.replaced.length : 0;
  screen.line(
    `  ${BUSYBOX} awk, as Debian ships it: ${bytes(image.bytes.length)}, ${count(replaced, 'instruction')} replaced`,
  );
  return path;
}

interface Pair {
  primary: SideProcess;
  shadow: SideProcess;
  client: ConsoleClient;
}

async function startPair(directory: string, image: string, screen: Screen, over: AbortSignal): Promise<Pair> {
  const at = (name: string) => join(directory, name);
  const shared = ['--link', `unix:${at('link')}`, '--arbiter', `file:${at('arbiter')}`, '--force'];
  const own = (name: string) => ['--console', `unix:${at(`${name}.console`)}`, '--log', at(`${name}.log`)];
  const primary = new SideProcess('primary', [...shared, ...own('primary'), '--image', image]);
  const stopBoth: SideProcess[] = [primary];
  over.addEventListener('abort', () => {
    for (const side of stopBoth) side.kill();
  });
  try {
    await primary.notice('listening');
    const shadow = new SideProcess('shadow', [...shared, ...own('shadow')]);
    stopBoth.push(shadow);
    await primary.notice('armed');
    screen.line(`  primary: process ${primary.pid}, shadow: process ${shadow.pid}`);
    const addresses = ['primary', 'shadow'].map((name) => `unix:${at(`${name}.console`)}`);
    const client = await ConsoleClient.connect({ addresses });
    return { primary, shadow, client };
  } catch (error) {
    for (const side of stopBoth) side.kill();
    throw error;
  }
}

function statusLine({ primary, shadow }: Pair, previous: { bytes: number; ms: number }): string {
  const side = primary.exited === undefined ? primary : shadow;
  const {
    lsn = 0,
    logFileBytes = 0,
    lsnExecuted = 0,
  } = side.status as Record<string, number | undefined> & { lsn?: number };
  const now = performance.now();
  const rate = (Number(logFileBytes) - previous.bytes) / ((now - previous.ms) / 1000);
  previous.bytes = Number(logFileBytes);
  previous.ms = now;
  const lag =
    side === primary ? `shadow lags ${Math.max(0, Number(lsn) - Number(lsnExecuted))}` : 'no shadow';
  return ` ${side.name} ${side.pid} is live · event ${lsn} · ${lag} events · log ${bytes(Number(logFileBytes))}, ${bytes(Math.max(0, Math.round(rate)))}/s`;
}

/** Feeds the input, prints the answers, kills the primary half-way. */
async function watch(pair: Pair, input: string[], rate: number, screen: Screen, over: AbortSignal) {
  const { primary, shadow, client } = pair;
  const answers: string[] = [];
  let pause: ConsolePause | undefined;
  let killedUs = 0;
  client.on('pause', (seen) => {
    pause = seen;
  });
  const reader = createInterface({ input: client.stdout });
  reader.on('line', (line) => {
    answers.push(line);
    screen.line(`  ${line}`);
  });
  const read = new Promise<void>((done) => reader.once('close', done));
  const previous = { bytes: 0, ms: performance.now() };
  const ticker = setInterval(() => screen.status(statusLine(pair, previous)), 250);
  try {
    for (const [index, line] of input.entries()) {
      if (index === Math.floor(input.length / 2)) {
        const { pid } = primary;
        killedUs = primary.kill();
        screen.step(`  >>> kill -9 ${pid}: the primary is gone <<<`);
        void shadow.notice('live').then(
          () => screen.step(`  >>> process ${shadow.pid}, the shadow, is live <<<`),
          () => {},
        );
      }
      over.throwIfAborted();
      client.stdin.write(`${line}\n`);
      await sleep(1000 / rate);
    }
    client.stdin.end();
    await client.ended;
    await read;
  } finally {
    clearInterval(ticker);
    screen.clear();
  }
  return { answers, pause, killedUs };
}

/** A program on a pair's console, killed and carried on. What was off, in one sentence each. */
export async function consoleDemo(
  flags: ConsoleFlags,
  directory: string,
  screen: Screen,
  over: AbortSignal,
): Promise<string[]> {
  const input = makeInput(flags.lines);

  screen.step('Packing an unmodified program');
  const image = await makeImage(directory, screen);
  screen.step('Starting it twice, in two processes');
  const pair = await startPair(directory, image, screen, over);
  over.addEventListener('abort', () => void pair.client.close());
  let wrong: string[] = [];
  try {
    screen.step(`Feeding it ${flags.lines} lines`);
    const { answers, pause, killedUs } = await watch(pair, input, flags.rate, screen, over);
    await pair.client.close();
    const ended = await pair.shadow.end();

    screen.step('Comparing with the same program on the host');
    const host = await collect(PROGRAM[0] as string, PROGRAM.slice(1), `${input.join('\n')}\n`);
    wrong = compareAnswers(host.stdout.trimEnd().split('\n'), answers);
    if (ended !== `status ${host.status}`)
      wrong.push(`the shadow ended with ${ended}, the host's program with status ${host.status}`);
    if (!pause) wrong.push('no takeover was seen');
    if (wrong.length === 0) {
      const { repeatedBytes } = pair.client;
      const repeats =
        repeatedBytes > 0 ? ` (${bytes(repeatedBytes)} came twice, were equal and were dropped)` : '';
      screen.line(
        `  ${count(answers.length, 'answer')}: none lost, none twice, none out of order, none different${repeats}`,
      );
    }
    screen.step('The pause, from kill -9 to the next answer');
    for (const line of explainPause(killedUs, pair.shadow.first, pause?.resumedUs)) screen.line(line);
  } finally {
    await pair.client.close();
    for (const side of [pair.primary, pair.shadow]) if (side.exited === undefined) side.kill();
  }
  wrong.push(...(await replayLogs(directory, ['primary.log', 'shadow.log'], screen, over)));
  return wrong;
}
