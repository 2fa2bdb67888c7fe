import test from 'ava';
import { WORK_FAULTS } from './helpers/pair-fault-list.js';
import { testFaults } from './helpers/pair-slice.js';

testFaults(
  test,
  WORK_FAULTS.filter(({ name }) => name.includes('dies')),
  2,
);
testFaults(
  test,
  WORK_FAULTS.filter(({ name }) => name.includes('stops')),
  1,
);
