import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { Recording } from '../lib/index.js';
import { printedRandom } from './helpers/command.js';
import { times } from './helpers/pace.js';
import { PairUnderTest } from './helpers/pair.js';
import type { PairLoad } from './helpers/pair-loads.js';

const directory = mkdtempSync(join(tmpdir(), 'lockstep-pair-forced-'));
const program = join(directory, 'ticks');
const source = new URL('./fixtures/guest/ticks.c', import.meta.url).pathname;
const SILENT = { answers: 0, lines: 0, longest: 0 };
const TICKS: PairLoad = { name: 'ticks', argv: [program, 'each'], ...SILENT };
/** Its forced stops come in several parts, so that a kill may leave some of them behind. */
const WIDE_TICKS: PairLoad = { name: 'wide ticks', argv: [program, 'each', 'wide'], ...SILENT };
const COMPUTES = 'BEGIN { print "begin"; fflush(); for (i = 0; i < 4000000; i++) s += i % 7; print s }';
const AWK: PairLoad = { name: 'awk-loop', argv: ['/bin/busybox', 'awk', COMPUTES], ...SILENT };

test.before(() => {
  execFileSync('g++', ['-x', 'c', '-O2', '-static', '-o', program, source]);
});
test.after.always(() => rmSync(directory, { recursive: true, force: true }));

const stops = async (log: string) => (await Recording.open(log)).info.checkpoints;

test.serial(
  'a computing program gets its timer signals in a pair, and its shadow follows to the end',
  async (t) => {
    const pair = await PairUnderTest.start({ load: TICKS, random: printedRandom(t), digestEvery: 1 });
    await pair.untilLines(21);
    const logs = [pair.log('primary'), pair.log('shadow')] as const;
    await Promise.all([pair.feed(), pair.client.ended]);
    const [primary, shadow] = await Promise.all(logs.map(stops));
    t.true((primary as number) >= 10, `${primary} forced stops`);
    t.is(shadow, primary);
    t.is((await pair.judge()).output, 'whole');
  },
);

test.serial(
  'a primary that dies between forced stops is taken over from, and nothing is missing',
  async (t) => {
    const random = printedRandom(t);
    for (let turn = 0; turn < times(4); turn++) {
      const pair = await PairUnderTest.start({ load: turn % 2 ? WIDE_TICKS : TICKS, random, digestEvery: 1 });
      await pair.untilLines(random.between(2, 18));
      pair.primary.signal('SIGKILL');
      t.is((await pair.judge()).output, 'whole');
    }
  },
);

test.serial('a shadow is handed what its primary computed without a system call', async (t) => {
  const pair = await PairUnderTest.start({ load: AWK, random: printedRandom(t) });
  await pair.untilLines(1);
  // One event is the boot's, another the first line's: all others are handed over while nothing happens.
  while ((await stops(pair.log('shadow'))) === 0) await new Promise((resolve) => setTimeout(resolve, 10));
  pair.primary.signal('SIGKILL');
  t.is((await pair.judge()).output, 'whole');
});
