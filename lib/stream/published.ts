/**
 * What `lockstep publish` writes for any static file server: a manifest, NAME, and beside it packs/*.pack, which
 * hold the image's blocks in zstd frames: those that are needed first many to a frame, all others one.
 *
 * Manifest: "LSPUBL01", the SHA-256 of what follows, and one zstd frame of: meta's length (u32), meta (JSON), the
 * image's front as it is, and five arrays of u32, one entry for each block: the order in which blocks are fetched, the
 * pack, offset and length of the frame where each lies, and its first byte within that. All little-endian. A pack's
 * name is its hash, so that a server, a proxy or a browser may keep it for ever.
 */
import { createHash } from 'node:crypto';
import { native } from '../addon.js';
import { LockstepError } from '../errors.js';
import { type ImageFront, inspectFront } from '../image/image-file.js';
import { type GroupOptions, isGroupOptions } from '../learn/groups.js';

const MAGIC = 'LSPUBL01';
const HASH_BYTES = 32;
const BODY_BYTES_MAX = 2 ** 30;
const COMPRESSION_LEVEL = 19;
const VERSION = 2;
/** What a frame of several blocks holds at most; native/block_store_object.cc takes no more. */
export const FRAME_BYTES_MAX = 1 << 20;
const ARRAYS = ['sequence', 'pack', 'offset', 'length', 'within'] as const;

export interface Pack {
  /** Of the file, without `.pack`. */
  name: string;
  bytes: number;
}

interface Meta {
  version: typeof VERSION;
  sha256: string;
  blocks: number;
  frontBytes: number;
  packs: Pack[];
  groups: number[];
  bytes: number;
  memorySum: string;
  priorities: GroupOptions;
}

export interface Published {
  /** The image's front; with it each block can be judged by itself. */
  front: Uint8Array;
  image: ImageFront;
  packs: Pack[];
  /** In which frame block i lies: packs[pack[i]], `length[i]` bytes from `offset[i]` on. Equal blocks lie in one. */
  pack: Uint32Array;
  offset: Uint32Array;
  length: Uint32Array;
  /** Where block i begins in what its frame holds. */
  within: Uint32Array;
  /** All blocks, in the order in which they are fetched. */
  sequence: Uint32Array;
  /** How many of `sequence` belong to each group. The machine starts when the first group is there. */
  groups: number[];
  /** What the groups were made from: the next version of the image has the same, unless it is given others. */
  priorities: GroupOptions;
  /** What all blocks take, compressed, each place once. */
  bytes: number;
  /** Of the memory that starts from this image, hexadecimal. */
  memorySum: string;
}

/** The path of a pack beside the manifest. */
export function packPath({ name }: Pack): string {
  return `packs/${name}.pack`;
}

export function sha256(...parts: Uint8Array[]): Buffer {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
}

export async function encodePublished(published: Published): Promise<Uint8Array> {
  const { front, image, packs, groups, bytes, memorySum } = published;
  const meta: Meta = {
    version: VERSION,
    sha256: image.sha256,
    blocks: published.sequence.length,
    frontBytes: front.length,
    packs,
    groups,
    bytes,
    memorySum,
    priorities: published.priorities,
  };
  const text = Buffer.from(JSON.stringify(meta));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(text.length);
  const arrays = ARRAYS.map((name) => littleEndian(published[name]));
  const body = await native().compress(Buffer.concat([length, text, front, ...arrays]), COMPRESSION_LEVEL);
  return Buffer.concat([Buffer.from(MAGIC), sha256(body), body]);
}

export function isPublished(start: Uint8Array): boolean {
  return Buffer.from(start).toString('latin1', 0, MAGIC.length) === MAGIC;
}

/** Believes nothing. Throws ERR_LOCKSTEP_STREAM_DAMAGED. */
export async function decodePublished(file: Uint8Array, name: string): Promise<Published> {
  if (!isPublished(file))
    throw damaged(name, 'it is none', 'Is this the address of what `lockstep publish` wrote?');
  const start = MAGIC.length + HASH_BYTES;
  const body = file.subarray(start);
  if (!sha256(body).equals(file.subarray(MAGIC.length, start))) throw damaged(name, 'its hash is wrong');
  const plain = Buffer.from(await native().decompress(body, BODY_BYTES_MAX));
  if (plain.length < 4) throw damaged(name, 'it cannot be decompressed');
  const metaEnd = 4 + plain.readUInt32LE(0);
  const meta = readMeta(plain.toString('utf8', 4, metaEnd), name);
  const frontEnd = metaEnd + meta.frontBytes;
  if (plain.length !== frontEnd + 4 * ARRAYS.length * meta.blocks) throw damaged(name, 'it is cut short');
  // A copy of its own: a view would keep all of the file in memory.
  const front = Uint8Array.from(plain.subarray(metaEnd, frontEnd));
  const [sequence, pack, offset, length, within] = ARRAYS.map((_, i) =>
    numbers(plain, frontEnd + 4 * meta.blocks * i, meta.blocks),
  ) as [Uint32Array, Uint32Array, Uint32Array, Uint32Array, Uint32Array];
  const { packs, groups, bytes, memorySum, priorities } = meta;
  const image = inspectFront(front, `the image of ${name}`);
  const published = {
    front,
    image,
    packs,
    pack,
    offset,
    length,
    within,
    sequence,
    groups,
    priorities,
    bytes,
    memorySum,
  };
  if (image.sha256 !== meta.sha256 || Math.ceil(image.contentBytes / image.blockBytes) !== meta.blocks)
    throw damaged(name, 'it does not belong to its image');
  checkPlaces(published, name);
  return published;
}

function readMeta(text: string, name: string): Meta {
  let meta: Meta;
  try {
    meta = JSON.parse(text) as Meta;
  } catch {
    throw damaged(name, 'what it says of itself cannot be read');
  }
  if (meta?.version !== VERSION) throw damaged(name, 'its version is another');
  const count = (value: unknown) => Number.isSafeInteger(value) && (value as number) >= 0;
  const right =
    [meta.blocks, meta.frontBytes, meta.bytes].every(count) &&
    /^[0-9a-f]{16}$/.test(meta.memorySum) &&
    Array.isArray(meta.groups) &&
    meta.groups.every(count) &&
    meta.groups.reduce((sum, group) => sum + group, 0) === meta.blocks &&
    isGroupOptions(meta.priorities) &&
    Array.isArray(meta.packs) &&
    meta.packs.every((pack) => /^[0-9a-f]{32}$/.test(pack?.name) && count(pack.bytes));
  if (!right) throw damaged(name, 'what it says of itself makes no sense');
  return meta;
}

function checkPlaces(
  { sequence, pack, offset, length, within, packs, image }: Published,
  name: string,
): void {
  const seen = new Uint8Array(sequence.length);
  for (const block of sequence) {
    const file = packs[pack[block] as number];
    const end = (offset[block] as number) + (length[block] as number);
    const held = (within[block] as number) + image.blockBytes;
    const isThere = file && end <= file.bytes && held <= Math.max(FRAME_BYTES_MAX, image.blockBytes);
    if (block >= sequence.length || seen[block] || !isThere)
      throw damaged(name, 'it names places that are not there');
    seen[block] = 1;
  }
}

export function damaged(name: string, what: string, hint?: string): LockstepError {
  return new LockstepError('ERR_LOCKSTEP_STREAM_DAMAGED', `${name} is no manifest to stream from: ${what}`, {
    hint: hint ?? 'It was damaged on its way, or at the server: compare it with what was published.',
  });
}

function littleEndian(values: Uint32Array): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  values.forEach((value, i) => {
    bytes.writeUInt32LE(value, 4 * i);
  });
  return bytes;
}

function numbers(from: Buffer, at: number, count: number): Uint32Array {
  return Uint32Array.from({ length: count }, (_, i) => from.readUInt32LE(at + 4 * i));
}
