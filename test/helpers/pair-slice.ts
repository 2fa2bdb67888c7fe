import type { ExecutionContext, TestFn } from 'ava';
import { closeAll, type Fault } from './pair-faults.js';
import { Random, testSeed } from './random.js';

/** One test for each fault, which does it so many times and says what it saw and with which seed. */
export function testFaults(test: TestFn, faults: readonly Fault[], times: number): void {
  const seed = testSeed();
  test.afterEach.always(closeAll);
  for (const [index, { name, scenario }] of faults.entries()) {
    test.serial(name, async (t: ExecutionContext) => {
      t.log(`LOCKSTEP_TEST_SEED=${seed}`);
      for (let i = 0; i < times; i++) {
        const { what, load, output, events, struck } = await scenario(new Random(seed + index * 101 + i));
        const met = struck ? '' : ', which came too late to be met';
        t.log(`${load}: ${what}${met}: output ${output}, ${events.primary} and ${events.shadow} events`);
      }
      t.pass();
    });
  }
}
