/** In which frames blocks are published, and in which order they are fetched. */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Image } from '../lib/index.js';
import { Plan } from '../lib/stream/plan.js';
import { publish } from '../lib/stream/publish.js';
import { decodePublished, FRAME_BYTES_MAX, type Published } from '../lib/stream/published.js';
import { scratch } from './helpers/command.js';

const FIRST = { first: ['/t/first*'] };
const BYTES = 100_000;

/** Bytes that do not compress, the same each time. */
function noise(name: string): Buffer {
  return createHash('shake256', { outputLength: BYTES }).update(name).digest();
}

const noises = (): Buffer[] => Array.from({ length: 30 }, (_, i) => noise(`first${i}`));

/** Of an image in which these files are needed first, and others are not. */
async function published(t: ExecutionContext, site: string, first: Buffer[]): Promise<Published> {
  const files = join(scratch(t), 't');
  mkdirSync(files, { recursive: true });
  first.forEach((bytes, i) => {
    writeFileSync(join(files, `first${i}`), bytes);
  });
  for (let i = 0; i < 10; i++) writeFileSync(join(files, `other${i}`), noise(`other${i}`));
  const image = await Image.fromProgram({ argv: ['busybox', 'true'], files: [{ host: files, guest: '/t' }] });
  const path = join(files, 'x.lsm');
  await image.write(path);
  await publish(path, site, { name: 'app', ...FIRST });
  return decodePublished(readFileSync(join(site, 'app')), 'app');
}

/** How many blocks lie in each frame, of a group. */
function sizes({ sequence, groups, pack, offset }: Published, group: number): number[] {
  const start = groups.slice(0, group).reduce((sum, count) => sum + count, 0);
  const frames = new Map<string, number>();
  for (const block of sequence.subarray(start, start + (groups[group] ?? 0))) {
    const frame = `${pack[block]}:${offset[block]}`;
    frames.set(frame, (frames.get(frame) ?? 0) + 1);
  }
  return [...frames.values()];
}

test('the first group is published in frames of many blocks, the rest one by one', async (t) => {
  const all = await published(t, scratch(t), noises());
  const unit = FRAME_BYTES_MAX / all.image.blockBytes;
  const first = sizes(all, 0);
  t.is(first.length, Math.ceil((all.groups[0] as number) / unit));
  t.true(first.length > 1 && first.slice(0, -1).every((count) => count === unit));
  // All but blocks of zeros, which are one block.
  t.true(sizes(all, 2).filter((count) => count > 1).length <= 1);
});

test('a new version names old frames for what it has of them', async (t) => {
  const site = scratch(t);
  const files = noises();
  const before = await published(t, site, files);
  const names = new Set(before.packs.map(({ name }) => name));
  const after = await published(t, site, [...files.slice(0, 29), noise('another')]);
  const place = ({ packs, pack, offset, within }: Published, block: number) =>
    `${packs[pack[block] as number]?.name} ${offset[block]} ${within[block]}`;
  const known = new Set(
    [...before.sequence.subarray(0, before.groups[0])].map((block) => place(before, block)),
  );
  const first = [...after.sequence.subarray(0, after.groups[0])];
  const kept = first.filter((block) => known.has(place(after, block)));
  t.true(kept.length > first.length / 2, `${kept.length} of ${first.length}`);
  t.true(after.packs.some(({ name }) => names.has(name)));
});

test('nothing beyond the first group is fetched ahead before all of it is here', async (t) => {
  const files = noises();
  const all = await published(t, scratch(t), files);
  const first = new Set(all.sequence.subarray(0, all.groups[0]));
  const plan = new Plan(all, new Uint8Array(all.sequence.length));
  const jobs = Array.from({ length: first.size }, () => plan.nextInOrder(64 * 1024)).filter((job) => job);
  const came = jobs.flatMap((job) => job?.places ?? []);
  t.deepEqual(new Set(came.flatMap(({ blocks }) => blocks)), first);
  t.is(plan.nextInOrder(64 * 1024), undefined);
  // Who stands still is not kept waiting.
  const late = all.sequence.at(-1) as number;
  plan.want(late);
  t.true(plan.nextWanted()?.places[0]?.blocks.includes(late));

  for (const place of came.slice(1)) plan.put(place);
  t.is(plan.nextInOrder(64 * 1024), undefined);
  // What did not come is had again.
  plan.giveBack(jobs[0] as NonNullable<(typeof jobs)[0]>);
  t.deepEqual(plan.nextInOrder(64 * 1024)?.places, [came[0]]);
  for (const place of came.slice(0, 1)) plan.put(place);
  const next = plan.nextInOrder(64 * 1024);
  t.true(next?.places.every(({ blocks }) => blocks.every((block) => !first.has(block))));
});
