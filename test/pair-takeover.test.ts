import test from 'ava';
import { TAKEOVER_FAULTS } from './helpers/pair-fault-list.js';
import { testFaults } from './helpers/pair-slice.js';

testFaults(test, TAKEOVER_FAULTS, 2);
