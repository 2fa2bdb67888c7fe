/** An image or a snapshot, written for any static file server. */
import {
  type FileHandle,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  writeFile,
} from 'node:fs/promises';
import { basename, join } from 'node:path';
import { native } from '../addon.js';
import { LockstepError } from '../errors.js';
import { blockRange, type ImageFront, inspectFront, isBlock } from '../image/image-file.js';
import { Group, type GroupOptions } from '../learn/groups.js';
import type { ReadFile } from '../learn/places.js';
import { hashOf, readAt, readFront } from './image-blocks.js';
import { hasPriorities, type Prioritised, prioritise } from './priorities.js';
import {
  decodePublished,
  encodePublished,
  FRAME_BYTES_MAX,
  isPublished,
  type Pack,
  packPath,
  sha256,
} from './published.js';

/** Small enough for servers that know no ranges, of which a pack is the least that can be had. */
const PACK_BYTES_MAX = 4 << 20;
const AT_ONCE = 4;
const LEVEL = 12;
/** Of what nothing starts without, and everybody waits for. */
const FIRST_LEVEL = 19;

export interface PublishOptions extends GroupOptions {
  /** The manifest's name in the directory. Default: the image file's. */
  name?: string;
  /** How hard zstd tries, 1 to 19. Default: 19 for what is needed before anything starts, 12 for the rest. */
  level?: number;
}

export interface PublishResult {
  /** The manifest's path. */
  path: string;
  /** The identity of what is streamed: of an image that was laid out by its priorities, another than the file's. */
  sha256: string;
  blocks: number;
  /** What a client without anything fetches, manifest included. */
  bytes: number;
  /** What this call wrote: less where blocks were published before. */
  bytesWritten: number;
}

interface Place {
  pack: Pack;
  offset: number;
  length: number;
  /** Its first byte in what the frame there holds. */
  within: number;
}

interface Frame {
  /** By their hashes, in their order in it. */
  blocks: { hash: string; within: number }[];
  bytes: Uint8Array;
}

/**
 * Writes an image file, or a snapshot's, into a directory from which {@link Stream} and `lockstep stream` start it.
 * What other versions in it have already is not written again. Throws ERR_LOCKSTEP_NOT_AN_IMAGE.
 */
export async function publish(
  path: string,
  directory: string,
  options: PublishOptions = {},
): Promise<PublishResult> {
  const { name = basename(path) } = options;
  await mkdir(join(directory, 'packs'), { recursive: true });
  const file = await openImage(path);
  try {
    const source = await readFront(file, path);
    const read = (at: number, bytes: number) => readAt(file, at, bytes);
    await verifyBlocks(inspectFront(source, path), read, path);
    const places = await knownPlaces(directory);
    const writer = new PackWriter(directory, places);
    const target = join(directory, name);
    const wanted = hasPriorities(options) ? pick(options) : await prioritiesOf(target);
    const published = await prioritise(source, inspectFront(source, path), read, wanted);
    const { front, image, sequence, groups } = published;
    let done = 0;
    for (const [number, group] of groups.entries()) {
      const fresh = unplaced(image, sequence.subarray(done, done + group), places);
      done += group;
      const isFirst = number === Group.START;
      // All of the first group is fetched in any case; of the others a frame may be wanted for one block of it.
      const unit = isFirst ? Math.max(Math.floor(FRAME_BYTES_MAX / image.blockBytes), 1) : 1;
      const level = options.level ?? (isFirst ? FIRST_LEVEL : LEVEL);
      const units = chunksOf(fresh, unit);
      for (const some of chunksOf(units, AT_ONCE))
        await writer.add(await Promise.all(some.map((blocks) => compressed(published, path, blocks, level))));
      await writer.flush();
    }
    const layout = layOut(image, sequence.length, places);
    const manifest = await encodePublished({
      front,
      image,
      sequence,
      groups,
      priorities: wanted,
      ...layout,
      memorySum: await native().imageSum(path, source),
    });
    await replace(target, manifest);
    return {
      path: target,
      sha256: image.sha256,
      blocks: sequence.length,
      bytes: layout.bytes + manifest.length,
      bytesWritten: writer.bytes + manifest.length,
    };
  } finally {
    await file.close();
  }
}

async function openImage(path: string): Promise<FileHandle> {
  return open(path).catch((cause: NodeJS.ErrnoException) => {
    const { message, errno, syscall } = cause;
    throw new LockstepError('ERR_LOCKSTEP_SYSTEM', `cannot read ${path}: ${message}`, {
      cause,
      errno,
      syscall,
    });
  });
}

/** Those that the image published under this name has, so that its next version need not be given them again. */
async function prioritiesOf(path: string): Promise<GroupOptions> {
  const before = await readFile(path).catch(() => undefined);
  const published = before && (await decodePublished(before, basename(path)).catch(() => undefined));
  return published?.priorities ?? {};
}

function pick({ profile, first, last }: GroupOptions): GroupOptions {
  return { ...(profile && { profile }), ...(first && { first }), ...(last && { last }) };
}

/** Where the blocks lie that manifests of this directory name. */
async function knownPlaces(directory: string): Promise<Map<string, Place>> {
  const places = new Map<string, Place>();
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = await readFile(join(directory, entry.name));
    if (!isPublished(file)) continue;
    // One that is damaged helps nobody, and is nobody's harm here.
    const published = await decodePublished(file, entry.name).catch(() => undefined);
    if (!published) continue;
    const { image, packs, pack, offset, length, within } = published;
    const whole = await Promise.all(packs.map((one) => isWhole(join(directory, packPath(one)), one.bytes)));
    pack.forEach((number, block) => {
      if (!whole[number]) return;
      const place = {
        pack: packs[number] as Pack,
        offset: offset[block] as number,
        length: length[block] as number,
        within: within[block] as number,
      };
      places.set(hashOf(image, block), place);
    });
  }
  return places;
}

async function isWhole(path: string, bytes: number): Promise<boolean> {
  const found = await stat(path).catch(() => undefined);
  return found?.size === bytes;
}

/** Throws ERR_LOCKSTEP_NOT_AN_IMAGE for a file that was damaged since it was written. */
async function verifyBlocks(image: ImageFront, read: ReadFile, path: string): Promise<void> {
  for (let block = 0; block * image.blockBytes < image.contentBytes; block++)
    await readBlock(image, read, block, path);
}

async function readBlock(
  image: ImageFront,
  read: ReadFile,
  block: number,
  path: string,
): Promise<Uint8Array> {
  const { start, end } = blockRange(image, block);
  const bytes = await read(start, end - start);
  if (isBlock(image, block, bytes)) return bytes;
  throw new LockstepError(
    'ERR_LOCKSTEP_NOT_AN_IMAGE',
    `${path} is damaged: its block ${block} is not what it was`,
    { hint: 'Pack it again, or take the snapshot again.' },
  );
}

/** Those of these blocks that lie nowhere yet, of equal ones one. */
function unplaced(image: ImageFront, blocks: Uint32Array, places: Map<string, Place>): number[] {
  const fresh = new Map<string, number>();
  for (const block of blocks) {
    const hash = hashOf(image, block);
    if (!places.has(hash)) fresh.set(hash, block);
  }
  return [...fresh.values()];
}

function chunksOf<T>(list: readonly T[], count: number): T[][] {
  const chunks: T[][] = [];
  for (let at = 0; at < list.length; at += count) chunks.push(list.slice(at, at + count));
  return chunks;
}

/** These blocks in one frame. */
async function compressed(
  { image, read }: Prioritised,
  path: string,
  blocks: readonly number[],
  level: number,
): Promise<Frame> {
  const plain = await Promise.all(blocks.map((block) => readBlock(image, read, block, path)));
  let within = 0;
  const held = blocks.map((block, i) => {
    const piece = { hash: hashOf(image, block), within };
    within += (plain[i] as Uint8Array).length;
    return piece;
  });
  return { blocks: held, bytes: await native().compress(Buffer.concat(plain), level) };
}

/** Gathers frames into packs of a bounded size, and knows where each lies. */
class PackWriter {
  bytes = 0;
  readonly #directory: string;
  readonly #places: Map<string, Place>;
  #frames: Uint8Array[] = [];
  /** Named when it is full. */
  #pack: Pack = { name: '', bytes: 0 };

  constructor(directory: string, places: Map<string, Place>) {
    this.#directory = directory;
    this.#places = places;
  }

  async add(frames: readonly Frame[]): Promise<void> {
    for (const { blocks, bytes } of frames) {
      const { length } = bytes;
      if (this.#pack.bytes + length > PACK_BYTES_MAX) await this.flush();
      for (const { hash, within } of blocks)
        this.#places.set(hash, { pack: this.#pack, offset: this.#pack.bytes, length, within });
      this.#frames.push(bytes);
      this.#pack.bytes += length;
    }
  }

  /** A pack is there before anything names it. */
  async flush(): Promise<void> {
    if (this.#frames.length === 0) return;
    const content = Buffer.concat(this.#frames);
    this.#pack.name = sha256(content).toString('hex', 0, 16);
    await replace(join(this.#directory, packPath(this.#pack)), content);
    this.bytes += content.length;
    this.#frames = [];
    this.#pack = { name: '', bytes: 0 };
  }
}

function layOut(image: ImageFront, blocks: number, places: Map<string, Place>) {
  const packs: Pack[] = [];
  const numbers = new Map<string, number>();
  const arrays = Array.from({ length: 4 }, () => new Uint32Array(blocks));
  const [pack, offset, length, within] = arrays as [Uint32Array, Uint32Array, Uint32Array, Uint32Array];
  const counted = new Set<string>();
  let bytes = 0;
  for (let block = 0; block < blocks; block++) {
    const place = places.get(hashOf(image, block));
    if (!place) throw new LockstepError('ERR_LOCKSTEP_INTERNAL', `block ${block} was not written`);
    const number = numbers.get(place.pack.name) ?? packs.push(place.pack) - 1;
    numbers.set(place.pack.name, number);
    pack[block] = number;
    offset[block] = place.offset;
    length[block] = place.length;
    within[block] = place.within;
    const frame = `${number}:${place.offset}`;
    if (!counted.has(frame)) bytes += place.length;
    counted.add(frame);
  }
  return { packs, pack, offset, length, within, bytes };
}

/** Whole, or not at all: a server may be reading. */
async function replace(path: string, content: Uint8Array): Promise<void> {
  const part = `${path}.${process.pid}.part`;
  try {
    await writeFile(part, content, { flush: true });
    await rename(part, path);
  } finally {
    await rm(part, { force: true });
  }
}
