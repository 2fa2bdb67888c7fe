import type { ExecutionContext, TestFn } from 'ava';
import { emulated, times as paced } from './pace.js';
import type { Fault } from './pair-fault-list.js';
import { closeAll } from './pair-faults.js';
import { Random, testSeed } from './random.js';

/** A fault can come too late to be met, and is tried again; one that never is met is wired to nothing. */
const TRIES = 4;

/**
 * One test for each fault, which does it so many times and says what it saw and with which seed. Of a long
 * list an emulated host does one in four, others with another seed.
 */
export function testFaults(test: TestFn, faults: readonly Fault[], count: number): void {
  const times = paced(count);
  const seed = testSeed();
  test.afterEach.always(closeAll);
  for (const [index, { name, scenario }] of faults.entries()) {
    if (emulated && faults.length > 4 && (index + seed) % 4 !== 0) continue;
    test.serial(name, async (t: ExecutionContext) => {
      t.log(`LOCKSTEP_TEST_SEED=${seed}`);
      let met = 0;
      for (let tried = 0; met < times && tried < times * TRIES; tried++) {
        const { what, load, output, events, struck } = await scenario(new Random(seed + index * 101 + tried));
        if (struck) met++;
        const late = struck ? '' : ', which came too late to be met';
        t.log(`${load}: ${what}${late}: output ${output}, ${events.primary} and ${events.shadow} events`);
      }
      t.true(met > 0, 'the fault was never met');
    });
  }
}
