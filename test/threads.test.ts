import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { command, printedRandom, root, run, scratch } from './helpers/command.js';
import { times } from './helpers/pace.js';
import { checkWorkload, ourProcessors, recordWorkload, replayOn, whatIsWrong } from './helpers/replays.js';

const REPLAYS = times(4);

const directory = mkdtempSync(join(tmpdir(), 'lockstep-threads-'));
test.after.always(() => rmSync(directory, { recursive: true, force: true }));

/** The programs check themselves, and say the same wherever they hold. */
async function compile(name: string): Promise<string> {
  const program = join(directory, name);
  const source = join(root, 'test/fixtures/threads', `${name}.c`);
  const { status, stderr } = await command(['cc', '-O1', '-static', '-pthread', source, '-o', program]);
  if (status !== 0) throw new Error(stderr);
  return program;
}

for (const { name, input } of [
  { name: 'threads', input: [] },
  { name: 'events', input: ['one\n', 'two\nth', 'ree\n'] },
]) {
  test.serial(`${name}: as on the host, and in ${REPLAYS} kicked replays on either core`, async (t) => {
    // It checks itself, and says so by its status.
    t.is(await checkWorkload(t, { name, argv: [await compile(name)], input }, REPLAYS), 0);
  });
}

test.serial('threads that only compute share the processor, with input and a timer', async (t) => {
  const random = printedRandom(t);
  const log = join(scratch(t), 'x.log');
  const workload = { name: 'spin', argv: [await compile('spin')], input: [...'.'.repeat(40), 'q'] };
  const recorded = await recordWorkload(workload, log, random);
  t.is(recorded.stdout.toString(), 'both ran: 1, the timer too: 1\n');
  const kicks = { perSecond: 2000, seed: random.between(0, 2 ** 31) };
  const [report] = await replayOn(ourProcessors()[0] as number, [{ log, stdout: `${log}.out`, kicks }]);
  t.truthy(report);
  if (report) t.is(whatIsWrong(report, recorded), undefined);
});

test.serial('a deadlock ends the program and names who waits', async (t) => {
  const { status, stdout, stderr } = await run(['run', '--', await compile('stuck')]);
  t.is(stdout.toString(), 'stuck\n');
  t.is(status, 128 + 9);
  t.regex(stderr, /deadlock: .*\b1 \(stuck\) waits for a futex .*\b2 \(other\) waits for a futex/);
});

test.serial('a second process is refused, counted, and the closing line says what to do', async (t) => {
  const { stderr } = await run(['run', '--', 'busybox', 'sh', '-c', 'busybox true | busybox true']);
  t.regex(stderr, /unknown system calls: fork \(1\)/);
  t.regex(stderr, /one process/);
});
