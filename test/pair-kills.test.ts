import test from 'ava';
import { CORRUPTIONS, KILLS } from './helpers/pair-fault-list.js';
import { testFaults } from './helpers/pair-slice.js';

testFaults(test, KILLS.slice(0, 1), 10);
testFaults(test, KILLS.slice(1), 2);
testFaults(test, CORRUPTIONS, 1);
