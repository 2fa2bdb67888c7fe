import test from 'ava';
import { printedRandom, scratch } from './helpers/command.js';
import { makePublished } from './helpers/published.js';
import { streamWithCuts } from './helpers/stream-cuts.js';

const CUTS = 10;

test(`${CUTS} cuts of connections, servers and clients leave no wrong byte`, async (t) => {
  const directory = scratch(t);
  const random = printedRandom(t);
  const made = await makePublished(directory, random, { files: 30 });
  const { wrong, ...cuts } = await streamWithCuts(made, directory, random, CUTS);
  t.log(cuts);
  t.deepEqual(wrong, []);
});
