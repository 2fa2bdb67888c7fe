/**
 * Python's own tests (Debian's libpython3.11-testsuite, unpacked, not installed): each module is recorded in a
 * machine; what passes on the host passes there, but for what python-excluded.ts leaves out, with reasons; and the
 * recording replays exactly.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { printedRandom, scratch } from './helpers/command.js';
import { emulated } from './helpers/pace.js';
import { inMachine, layOut, lost, onHost } from './helpers/python-suite.js';
import { replayKicked, whatIsWrong } from './helpers/replays.js';

const QUICK = ['test_json', 'test_struct', 'test_float'];
/** Those of one lane run one after the other, beside the other lanes: most of what the long ones do is wait. */
const LANES = emulated
  ? [QUICK]
  : [
      ['test_asyncio'],
      ['test_io', 'test_socket', 'test_threading'],
      [
        ...QUICK,
        'test_re',
        'test_bytes',
        'test_dict',
        'test_math',
        'test_array',
        'test_set',
        'test_queue',
        'test_time',
        'test_hashlib',
        'test_zlib',
        'test_signal',
        'test_selectors',
      ],
    ];

const directory = mkdtempSync(join(tmpdir(), 'lockstep-python-'));
const tests = join(directory, 'test');
test.before(() => layOut(tests, LANES.flat()));
test.after.always(() => rmSync(directory, { recursive: true, force: true }));

async function check(t: ExecutionContext, module: string): Promise<void> {
  const random = printedRandom(t);
  const here = scratch(t);
  const record = async (only: readonly string[]) => {
    const log = join(here, only.length === 0 ? 'x.log' : 'again.log');
    const { recorded, outcomes } = await inMachine(module, only, tests, log, random);
    for (const report of await replayKicked(log, 1, random)) t.is(whatIsWrong(report, recorded), undefined);
    return { said: recorded.stdout.toString(), outcomes };
  };
  const [host, { outcomes }] = await Promise.all([onHost(module, tests, here), record([])]);
  t.log(`${host.size} outcomes on the host, ${outcomes.size} in the machine`);
  const missed = lost(host, outcomes);
  if (missed.length === 0) return;
  // Many tests give others a time, which a busy host does not: as in Python's own CI they get a second chance.
  t.log(`again: ${missed.join(' ')}`);
  const again = await record(missed);
  const still = missed.filter((name) => !again.outcomes.has(`passed ${name}`));
  t.deepEqual(still, [], again.said);
}

for (const lane of LANES) {
  let before = Promise.resolve();
  for (const module of lane) {
    test(`${module} passes as on the host, and replays exactly`, async (t) => {
      const mine = before.then(() => check(t, module));
      before = mine.catch(() => {});
      await mine;
    });
  }
}
