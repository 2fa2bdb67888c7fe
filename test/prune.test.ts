/** What is left of versions that were published before. */
import { mkdirSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { prune, Stream } from '../lib/index.js';
import { printedRandom, run, scratch } from './helpers/command.js';
import { makePublished } from './helpers/published.js';
import { Random } from './helpers/random.js';

const LATER = { olderThanHours: 0 };

test('what only the version before had goes, once it is old enough, and the one that is there stays whole', async (t) => {
  const directory = scratch(t);
  const { seed } = printedRandom(t);
  const { site } = await makePublished(directory, new Random(seed), { files: 90 });
  const packs = () => readdirSync(join(site, 'packs'));
  const before = packs();
  const made = await makePublished(directory, new Random(seed), {
    files: 90,
    change: (_, content) => {
      content.fill(7);
    },
  });
  writeFileSync(join(site, 'app.lsm.4711.part'), 'of a publish that was killed');
  writeFileSync(join(site, 'packs', 'notes.txt'), 'not ours');
  t.deepEqual(await prune(site), { files: 0, bytes: 0 });
  const said = await run(['prune', site, '--older-than', '0']);
  t.is(said.status, 0, said.stderr);
  t.regex(said.stderr, /[1-9]\d* files? removed/);
  t.true(before.some((name) => !packs().includes(name)));
  t.true(packs().includes('notes.txt'));
  t.false(readdirSync(site).some((name) => name.endsWith('.part')));
  t.deepEqual(await prune(site, LATER), { files: 0, bytes: 0 });
  const output = join(directory, 'got.lsm');
  const stream = await Stream.open(join(site, 'app.lsm'), { output });
  await stream.finished;
  t.true(readFileSync(output).equals(readFileSync(made.path)));
});

test('nothing goes while a manifest cannot be read, or where nothing was published', async (t) => {
  const directory = scratch(t);
  const { site } = await makePublished(directory, printedRandom(t), { files: 1 });
  const old = new Date(Date.now() - 48 * 3_600_000);
  for (const name of readdirSync(join(site, 'packs'))) utimesSync(join(site, 'packs', name), old, old);
  const manifest = readFileSync(join(site, 'app.lsm'));
  manifest[100] = (manifest[100] as number) ^ 1;
  writeFileSync(join(site, 'app.lsm'), manifest);
  const packs = readdirSync(join(site, 'packs'));
  await t.throwsAsync(prune(site), { code: 'ERR_LOCKSTEP_STREAM_DAMAGED' });
  t.deepEqual(readdirSync(join(site, 'packs')), packs);
  rmSync(join(site, 'app.lsm'));
  t.is((await prune(site)).files, packs.length);
  mkdirSync(join(directory, 'empty'));
  await t.throwsAsync(prune(join(directory, 'empty')), { code: 'ERR_LOCKSTEP_SYSTEM' });
});
