import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { Image, Recording, record } from '../lib/index.js';
import { printedRandom, run, scratch } from './helpers/command.js';
import { headerBytes } from './helpers/log-bytes.js';
import { times } from './helpers/pace.js';
import { recordWorkload, replayKicked, whatIsWrong } from './helpers/replays.js';

const directory = mkdtempSync(join(tmpdir(), 'lockstep-forced-'));
const ticks = join(directory, 'ticks');
const source = new URL('./fixtures/guest/ticks.c', import.meta.url).pathname;

test.before(() => {
  execFileSync('g++', ['-x', 'c', '-O2', '-static', '-o', ticks, source]);
});
test.after.always(() => rmSync(directory, { recursive: true, force: true }));

test.serial('a program that only computes gets its timer signals, and replays exactly', async (t) => {
  const random = printedRandom(t);
  const here = scratch(t);
  const log = join(here, 'x.log');
  const recorded = await recordWorkload({ name: 'ticks', argv: [ticks] }, log, random);
  t.is(recorded.stdout.toString(), '20 ticks\n');
  t.is(recorded.status, 0);

  const { info } = await Recording.open(log);
  t.true(info.checkpoints >= 20, `${info.checkpoints} forced stops`);
  t.true(info.checkpointBytes > 0);

  for (const report of await replayKicked(log, times(6), random))
    t.is(whatIsWrong(report, recorded), undefined, JSON.stringify(report.kicks));
});

test.serial('a program that waits, however often, is never stopped', async (t) => {
  const log = join(scratch(t), 'x.log');
  // Nobody writes to its input, so each read ends by its timer.
  const script = 'for ((i = 0; i < 15; i++)); do read -t 0.1; done';
  const image = await Image.fromProgram({ argv: ['bash-static', '-c', script] });
  const machine = await record(image, { log });
  await machine.ended;
  await machine.close();
  const { info } = await Recording.open(log);
  t.true(info.events >= 15);
  t.is(info.checkpoints, 0);
});

test.serial('a log that is cut in the middle of forced stops replays up to a whole event', async (t) => {
  const random = printedRandom(t);
  const here = scratch(t);
  const log = join(here, 'x.log');
  const recorded = await run(['record', '--quiet', '--digest-every', '1', '--log', log, '--', ticks]);
  t.is(recorded.status, 0, recorded.stderr);
  const whole = readFileSync(log);
  const { info } = await Recording.open(log);
  const image = whole.length - info.wholeBytes;
  t.is(image, 0);
  for (let turn = 0; turn < times(12); turn++) {
    const bytes = random.between(headerBytes(whole), whole.length - 1);
    const cut = join(here, 'cut.log');
    writeFileSync(cut, whole.subarray(0, bytes));
    const replayed = await run(['replay', '--json', cut]);
    t.is(replayed.status, 0, `cut at ${bytes}: ${replayed.stderr}`);
    const report = JSON.parse(replayed.stdout.toString());
    t.is(report.divergence, null);
    t.true(report.events <= info.events);
  }
});
