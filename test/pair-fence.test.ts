import test from 'ava';
import { ARBITER, BOTH_ALIVE, blocks, RACE_FAULTS } from './helpers/pair-fault-list.js';
import { testFaults } from './helpers/pair-slice.js';

testFaults(test, RACE_FAULTS, 1);
testFaults(test, BOTH_ALIVE, 1);
testFaults(test, ARBITER, 1);
testFaults(test, blocks(3000), 1);
