import test from 'ava';
import { ETCD_FAULTS, PARTITIONS, setUp, tearDown } from './helpers/pair-etcd.js';
import { blocks, RACE_FAULTS } from './helpers/pair-fault-list.js';
import { testFaults } from './helpers/pair-slice.js';

test.before(setUp);
test.after.always(tearDown);

testFaults(test, PARTITIONS, 1);
testFaults(test, ETCD_FAULTS, 1);
testFaults(
  test,
  RACE_FAULTS.filter(({ name }) => name.includes('stops')),
  1,
);
testFaults(
  test,
  blocks(10_000).filter(({ name }) => name.includes('both')),
  1,
);
