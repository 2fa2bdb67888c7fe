import test from 'ava';
import { OVERLOADS } from './helpers/pair-overload.js';
import { testFaults } from './helpers/pair-slice.js';

testFaults(test, OVERLOADS, 1);
