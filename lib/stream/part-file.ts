/** The file that a stream fills: NAME.part until it is whole, and what older files can give it. */
import { existsSync } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { native } from '../addon.js';
import { guarded, LockstepError } from '../errors.js';
import { blockRange, type ImageFront, inspectFront } from '../image/image-file.js';
import type { NativeBlockStore } from '../native.js';
import { invalid } from '../options.js';
import { hashOf, readAt, readFront } from './image-blocks.js';
import type { Published } from './published.js';

/** Where an image stands until it is whole. */
export const partPath = (output: string): string => `${output}.part`;

export interface PartFile {
  store: NativeBlockStore;
  /** Gives it its name, once it is whole. */
  finish(): Promise<void>;
}

/**
 * Takes up what an earlier stream left, and takes over what another version of the image there has in common with
 * this one. Throws ERR_LOCKSTEP_INVALID_ARGUMENT where something else stands there.
 */
export async function openPartFile(
  output: string,
  { front, image }: Published,
  wanted: (block: number) => void,
): Promise<PartFile> {
  const part = partPath(output);
  const present = await frontOf(output);
  if (present === 'something else')
    throw invalid(`${output} exists already, and is no image`, 'Choose another file with --output.');
  if (present?.sha256 === image.sha256) {
    const store = await openStore(output, front, wanted);
    return { store, finish: async () => {} };
  }
  const left = await frontOf(part);
  const older = `${part}.old`;
  if (left !== undefined && left !== 'something else' && left.sha256 !== image.sha256)
    await rename(part, older);
  const store = await openStore(part, front, wanted);
  try {
    if (present) await takeOver(store, image, output, present);
    const usable = await frontOf(older);
    if (usable !== undefined && usable !== 'something else') await takeOver(store, image, older, usable);
    await rm(older, { force: true });
  } catch (error) {
    store.close();
    throw error;
  }
  return { store, finish: () => rename(part, output) };
}

async function openStore(
  path: string,
  front: Uint8Array,
  wanted: (block: number) => void,
): Promise<NativeBlockStore> {
  const store = guarded(() => native().openBlockStore(path, front, wanted));
  await guarded(() => store.recover());
  return store;
}

/** Undefined where there is no such file. */
async function frontOf(path: string): Promise<ImageFront | 'something else' | undefined> {
  if (!existsSync(path)) return undefined;
  const file = await open(path);
  try {
    return inspectFront(await readFront(file, path), path);
  } catch (error) {
    if (error instanceof LockstepError) return 'something else';
    throw error;
  } finally {
    await file.close();
  }
}

/** What the other file says of its blocks is not believed: the store looks at each. */
async function takeOver(
  store: NativeBlockStore,
  image: ImageFront,
  path: string,
  other: ImageFront,
): Promise<void> {
  const blocks = (of: ImageFront) => Math.ceil(of.contentBytes / of.blockBytes);
  const theirs = new Map<string, number>();
  for (let block = 0; block < blocks(other); block++) theirs.set(hashOf(other, block), block);
  const have = store.have();
  const file = await open(path);
  try {
    for (let block = 0; block < blocks(image); block++) {
      const same = have[block] ? undefined : theirs.get(hashOf(image, block));
      if (same === undefined) continue;
      const { start, end } = blockRange(other, same);
      await guarded(async () => store.putPlain(block, await readAt(file, start, end - start)));
    }
  } finally {
    await file.close();
  }
}
