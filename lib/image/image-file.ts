/** The image file, as native/image.h describes it: written, parsed and verified here. */
import { createHash, hash } from 'node:crypto';
import { LockstepError } from '../errors.js';
import type { Manifest } from './manifest.js';

export type StartMode = 'real' | 'long' | 'program' | 'snapshot';

const MODES: readonly StartMode[] = ['real', 'long', 'program', 'snapshot'];
const MAGIC = 'LSIMAGE2';
const VERSION = 2;
/** So many bytes at the beginning tell how large the front is. */
export const IMAGE_HEADER_BYTES = 104;
const SEGMENT_BYTES = 24;
const HASH_OFFSET = 72;
const HASH_BYTES = 32;
/** Of images that are packed here; a multiple of the page. */
export const IMAGE_BLOCK_BYTES = 32 * 1024;
const BLOCK_BYTES_MAX = 1 << 24;
const FRONT_BYTES_MAX = 2 ** 30;
const PAGE = 4096;
const MIB = 1024 * 1024;
const DEFAULT_MEMORY_MIB = 256;

export interface ImageContent {
  mode: StartMode;
  /** Guest physical address of the first instruction; 0 for programs. */
  entry: number;
  memoryMiB: number;
  segments: readonly { gpa: number; bytes: Uint8Array }[];
  manifest: Manifest;
}

export interface ImageInfo {
  mode: StartMode;
  /** Guest physical address of the first instruction; unused for programs and snapshots. */
  entry: number;
  /** Default RAM size; a snapshot's has no other. */
  memoryBytes: number;
  /** Where each segment goes in guest memory and where its bytes stand in the file. */
  segments: { gpa: number; bytes: number; fileOffset: number }[];
  manifest: Manifest;
  /** Where the content begins: the front, which proves all of it, ends there. */
  contentOffset: number;
  contentBytes: number;
  /** The content's parts that have a hash each; the last may be shorter. */
  blockBytes: number;
  /** The image's identity: hash of its front, hexadecimal. */
  sha256: string;
}

/** The front of an image: with it each block of the content can be judged by itself. */
export interface ImageFront extends ImageInfo {
  /** What a snapshot goes on from; empty in an image that boots. */
  state: Uint8Array;
  /** SHA-256 of every block, one behind the other. */
  blockHashes: Uint8Array;
}

/**
 * Checks a RAM size in MiB: an even whole number, 2 MiB to 1 TiB. Default: 256.
 * Throws ERR_LOCKSTEP_INVALID_ARGUMENT.
 */
export function checkMemory(memoryMiB = DEFAULT_MEMORY_MIB): number {
  if (Number.isInteger(memoryMiB) && memoryMiB >= 2 && memoryMiB % 2 === 0 && memoryMiB <= MIB)
    return memoryMiB;
  throw new LockstepError(
    'ERR_LOCKSTEP_INVALID_ARGUMENT',
    `The memory size ${memoryMiB} MiB is not a multiple of 2 MiB.`,
    {
      hint: 'Take an even number of MiB, such as 256.',
    },
  );
}

/** What a front is made of; its segments count offsets from the content's start. */
export interface FrontContent extends Pick<ImageInfo, 'mode' | 'entry' | 'memoryBytes' | 'contentBytes'> {
  segments: readonly { gpa: number; bytes: number; offset: number }[];
  manifest: Manifest;
  state?: Uint8Array;
  blockHashes: Uint8Array;
}

/** Where the content begins behind such a front. */
function contentOffsetOf(front: Omit<FrontContent, 'blockHashes'>, manifest: Uint8Array): number {
  const { segments, state, contentBytes } = front;
  const tables = SEGMENT_BYTES * segments.length + manifest.length + (state?.length ?? 0);
  return roundUp(IMAGE_HEADER_BYTES + tables + HASH_BYTES * Math.ceil(contentBytes / IMAGE_BLOCK_BYTES));
}

/** The front of an image. */
export function writeFront(front: FrontContent): Uint8Array {
  const { segments, state = new Uint8Array(0), contentBytes, blockHashes } = front;
  const manifest = Buffer.from(JSON.stringify(front.manifest));
  const manifestAt = IMAGE_HEADER_BYTES + SEGMENT_BYTES * segments.length;
  const contentOffset = contentOffsetOf(front, manifest);
  const file = Buffer.alloc(contentOffset);
  file.write(MAGIC, 0, 'latin1');
  file.writeUInt32LE(VERSION, 8);
  file.writeUInt32LE(MODES.indexOf(front.mode), 12);
  file.writeBigUInt64LE(BigInt(front.entry), 16);
  file.writeBigUInt64LE(BigInt(front.memoryBytes), 24);
  file.writeUInt32LE(segments.length, 32);
  file.writeUInt32LE(manifest.length, 36);
  file.writeBigUInt64LE(BigInt(state.length), 40);
  file.writeBigUInt64LE(BigInt(contentOffset), 48);
  file.writeBigUInt64LE(BigInt(contentBytes), 56);
  file.writeUInt32LE(IMAGE_BLOCK_BYTES, 64);
  file.writeUInt32LE(Math.ceil(contentBytes / IMAGE_BLOCK_BYTES), 68);
  segments.forEach(({ gpa, bytes, offset }, i) => {
    const at = IMAGE_HEADER_BYTES + SEGMENT_BYTES * i;
    file.writeBigUInt64LE(BigInt(gpa), at);
    file.writeBigUInt64LE(BigInt(bytes), at + 8);
    file.writeBigUInt64LE(BigInt(contentOffset + offset), at + 16);
  });
  manifest.copy(file, manifestAt);
  file.set(state, manifestAt + manifest.length);
  file.set(blockHashes, manifestAt + manifest.length + state.length);
  Buffer.from(hashOfFront(file), 'hex').copy(file, HASH_OFFSET);
  return file;
}

/** The file of an image. The same content gives the same bytes. Throws ERR_LOCKSTEP_IMAGE_TOO_LARGE. */
export function writeImage(image: ImageContent): Uint8Array {
  const parts = image.segments.filter((segment) => segment.bytes.length > 0);
  const memoryBytes = checkMemory(image.memoryMiB) * MIB;
  let contentBytes = 0;
  const segments = parts.map(({ gpa, bytes }) => {
    if (gpa + bytes.length > memoryBytes) throw tooLarge(gpa + bytes.length, image.memoryMiB);
    const offset = contentBytes;
    contentBytes += roundUp(bytes.length);
    return { gpa, bytes: bytes.length, offset };
  });
  const { mode, entry, manifest } = image;
  const front = { mode, entry, memoryBytes, contentBytes, segments, manifest };
  const contentOffset = contentOffsetOf(front, Buffer.from(JSON.stringify(manifest)));
  const file = Buffer.alloc(contentOffset + contentBytes);
  segments.forEach(({ offset }, i) => {
    file.set((parts[i] as (typeof parts)[number]).bytes, contentOffset + offset);
  });
  const hashes: Buffer[] = [];
  for (let at = contentOffset; at < file.length; at += IMAGE_BLOCK_BYTES)
    hashes.push(blockHash(file.subarray(at, Math.min(at + IMAGE_BLOCK_BYTES, file.length))));
  file.set(writeFront({ ...front, blockHashes: Buffer.concat(hashes) }));
  return file;
}

/** What a front says of one of its blocks. */
export function blockHash(block: Uint8Array): Buffer {
  return hash('sha256', block, 'buffer');
}

/**
 * The size of an image's front, by its first {@link IMAGE_HEADER_BYTES} bytes.
 * Throws ERR_LOCKSTEP_NOT_AN_IMAGE.
 */
export function frontBytes(start: Uint8Array, name = 'The image'): number {
  const file = asBuffer(start);
  if (file.length < IMAGE_HEADER_BYTES || file.toString('latin1', 0, 7) !== MAGIC.slice(0, 7))
    throw notAnImage(name, 'is not a Lockstep image', 'Make one with `lockstep image`.');
  const version = file.readUInt32LE(8);
  if (version !== VERSION || file[7] !== MAGIC.charCodeAt(7))
    throw notAnImage(
      name,
      `has version ${version}; this Lockstep reads version ${VERSION}`,
      'Pack it again.',
    );
  const { blockBytes, blockCount, contentBytes, contentOffset, tablesEnd } = readSizes(file);
  if ((blockBytes & (blockBytes - 1)) !== 0 || blockBytes < PAGE || blockBytes > BLOCK_BYTES_MAX)
    throw notAnImage(name, 'has blocks of an impossible size');
  if (contentBytes % PAGE !== 0 || blockCount !== Math.ceil(contentBytes / blockBytes))
    throw notAnImage(name, 'has blocks that do not cover its content');
  if (contentOffset > FRONT_BYTES_MAX || contentOffset !== roundUp(tablesEnd))
    throw notAnImage(name, 'has a front of an impossible size');
  return contentOffset;
}

/**
 * Reads an image's front and checks all of it: magic, version, hash, bounds, manifest; nothing of the content, of
 * which `bytes` need not have any. Throws ERR_LOCKSTEP_NOT_AN_IMAGE with what is wrong.
 */
export function inspectFront(bytes: Uint8Array, name = 'The image'): ImageFront {
  const contentOffset = frontBytes(bytes, name);
  const front = asBuffer(bytes).subarray(0, contentOffset);
  const sha256 = front.toString('hex', HASH_OFFSET, HASH_OFFSET + HASH_BYTES);
  if (front.length < contentOffset || hashOfFront(front) !== sha256)
    throw notAnImage(name, 'is damaged or cut off: its hash is wrong', 'Copy or pack it again.');
  const sizes = readSizes(front);
  const mode = MODES[front.readUInt32LE(12)];
  const memoryBytes = Number(front.readBigUInt64LE(24));
  if (mode === undefined) throw notAnImage(name, 'has an unknown start mode');
  if (memoryBytes === 0 || memoryBytes % (2 * MIB) !== 0)
    throw notAnImage(name, 'has a memory size that is no multiple of 2 MiB');
  const end = contentOffset + sizes.contentBytes;
  const segments = Array.from({ length: sizes.segmentCount }, (_, i) => {
    const at = IMAGE_HEADER_BYTES + SEGMENT_BYTES * i;
    const [gpa, bytes, fileOffset] = [0, 8, 16].map((o) => Number(front.readBigUInt64LE(at + o))) as [
      number,
      number,
      number,
    ];
    const inFile = fileOffset >= contentOffset && fileOffset % PAGE === 0 && fileOffset + bytes <= end;
    if (!inFile || gpa + bytes > memoryBytes) throw notAnImage(name, `has a bad segment ${i}`);
    return { gpa, bytes, fileOffset };
  });
  const { manifestAt, stateAt, hashesAt, tablesEnd, contentBytes, blockBytes } = sizes;
  return {
    mode,
    entry: Number(front.readBigUInt64LE(16)),
    memoryBytes,
    segments,
    manifest: readManifest(front.toString('utf8', manifestAt, stateAt), name),
    contentOffset,
    contentBytes,
    blockBytes,
    sha256,
    state: front.subarray(stateAt, hashesAt),
    blockHashes: front.subarray(hashesAt, tablesEnd),
  };
}

/** Where a block of the content stands in the file. */
export function blockRange(
  { contentOffset, contentBytes, blockBytes }: ImageInfo,
  block: number,
): { start: number; end: number } {
  const at = block * blockBytes;
  return { start: contentOffset + at, end: contentOffset + Math.min(at + blockBytes, contentBytes) };
}

/** Whether these are the block's bytes, by its hash. */
export function isBlock(front: ImageFront, block: number, bytes: Uint8Array): boolean {
  const { start, end } = blockRange(front, block);
  const at = block * HASH_BYTES;
  return (
    bytes.length === end - start && blockHash(bytes).equals(front.blockHashes.subarray(at, at + HASH_BYTES))
  );
}

/**
 * Reads an image and checks all of it: its front and every block.
 * Throws ERR_LOCKSTEP_NOT_AN_IMAGE with what is wrong.
 */
export function inspectImage(content: Uint8Array, name = 'The image'): ImageInfo {
  const front = inspectFront(content, name);
  const { state, blockHashes, ...info } = front;
  if (content.length < info.contentOffset + info.contentBytes) throw notAnImage(name, 'is cut off');
  if (content.length > info.contentOffset + info.contentBytes)
    throw notAnImage(name, 'goes on where it should end');
  for (let block = 0; block * HASH_BYTES < blockHashes.length; block++) {
    const { start, end } = blockRange(front, block);
    if (!isBlock(front, block, content.subarray(start, end)))
      throw notAnImage(name, `is damaged: the hash of its block ${block} is wrong`, 'Copy or pack it again.');
  }
  return info;
}

/** ERR_LOCKSTEP_IMAGE_TOO_LARGE, with the size that would do. `bytes` is the end of what must fit. */
export function tooLarge(bytes: number, memoryMiB: number): LockstepError {
  const enough = Math.ceil(bytes / (2 * MIB)) * 2;
  return new LockstepError(
    'ERR_LOCKSTEP_IMAGE_TOO_LARGE',
    `The image needs more than ${memoryMiB} MiB of memory.`,
    {
      hint: `Give the machine at least ${enough} MiB (--memory ${enough}) or pack fewer files.`,
    },
  );
}

function readManifest(text: string, name: string): Manifest {
  try {
    const manifest = JSON.parse(text) as Manifest;
    if (manifest?.version === 1) return manifest;
  } catch {
    // Said below: a manifest of ours always parses.
  }
  throw notAnImage(name, 'has a manifest that cannot be read');
}

/** What the header says of sizes, and what follows from it: where the parts of the front stand. */
function readSizes(file: Buffer) {
  const segmentCount = file.readUInt32LE(32);
  const manifestAt = IMAGE_HEADER_BYTES + SEGMENT_BYTES * segmentCount;
  const stateAt = manifestAt + file.readUInt32LE(36);
  const hashesAt = stateAt + Number(file.readBigUInt64LE(40));
  const blockCount = file.readUInt32LE(68);
  return {
    segmentCount,
    manifestAt,
    stateAt,
    hashesAt,
    tablesEnd: hashesAt + blockCount * HASH_BYTES,
    contentOffset: Number(file.readBigUInt64LE(48)),
    contentBytes: Number(file.readBigUInt64LE(56)),
    blockBytes: file.readUInt32LE(64),
    blockCount,
  };
}

/** SHA-256 of the front with the hash's own bytes zero. */
function hashOfFront(front: Buffer): string {
  const hash = createHash('sha256');
  hash
    .update(front.subarray(0, HASH_OFFSET))
    .update(Buffer.alloc(HASH_BYTES))
    .update(front.subarray(HASH_OFFSET + HASH_BYTES));
  return hash.digest('hex');
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function notAnImage(name: string, why: string, hint?: string): LockstepError {
  return new LockstepError('ERR_LOCKSTEP_NOT_AN_IMAGE', `${name} ${why}.`, { hint });
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / PAGE) * PAGE;
}
