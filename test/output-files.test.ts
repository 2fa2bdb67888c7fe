/** What a host keeps of sides that are over. */
import { readdirSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { tidy } from '../lib/cluster/output-file.js';
import { scratch } from './helpers/command.js';

const DAY_S = 86_400;

test('of each machine the last few outputs, for a week, and no sockets', (t) => {
  const directory = scratch(t);
  const now = Date.now() / 1000;
  const write = (name: string, ageS = 0) => {
    writeFileSync(join(directory, name), name);
    utimesSync(join(directory, name), now - ageS, now - ageS);
  };
  // A machine's name may look like a side's.
  const many = Array.from({ length: 7 }, (_, index) => `web.1.0000000${index}`);
  for (const [index, side] of many.entries()) {
    write(`${side}.out`, 100 - index);
    write(`${side}.out.1`, 200 - index);
    write(`${side}.console`);
  }
  write('web.0000000a.out', 6.9 * DAY_S);
  write('web.0000000b.out', 7.1 * DAY_S);
  // Full a week ago, and written to since.
  write('web.0000000c.out.1', 8 * DAY_S);
  write('web.0000000c.out', DAY_S);
  // Runs: it says nothing for weeks, and others after it did.
  write('web.1.0000000f.out', 30 * DAY_S);
  write('web.1.0000000f.control', 30 * DAY_S);
  for (const other of ['id', 'web.out', 'notes.txt']) write(other, 30 * DAY_S);

  const left = [
    ...many.slice(3).flatMap((side) => [`${side}.out`, `${side}.out.1`]),
    ...['web.0000000a.out', 'web.0000000c.out', 'web.0000000c.out.1'],
    ...['web.1.0000000f.control', 'web.1.0000000f.out'],
    ...['id', 'web.out', 'notes.txt'],
  ].sort();
  tidy(directory, new Set(['web.1.0000000f']));
  t.deepEqual(readdirSync(directory).sort(), left);
  tidy(directory, new Set(['web.1.0000000f']));
  t.deepEqual(readdirSync(directory).sort(), left);
});
