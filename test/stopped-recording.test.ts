import test from 'ava';
import { times } from './helpers/pace.js';
import { Random, testSeed } from './helpers/random.js';
import { recordStopped } from './helpers/stopped-recording.js';

test('a recorder that is stopped and continued misses nothing that the guest writes', async (t) => {
  const seed = testSeed();
  t.log(`LOCKSTEP_TEST_SEED=${seed}`);
  for (let i = 0; i < times(6); i++) {
    const { events, digests } = await recordStopped(new Random(seed + i));
    t.log(`${events} events, ${digests} digests`);
    t.true(digests >= events);
  }
});
