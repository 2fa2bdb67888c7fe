/** The image file, as native/image.h describes it: written, parsed and verified here. */
import { createHash } from 'node:crypto';
import { LockstepError } from '../errors.js';
import type { Manifest } from './manifest.js';

export type StartMode = 'real' | 'long' | 'program';

const MODES: readonly StartMode[] = ['real', 'long', 'program'];
const MAGIC = 'LSIMAGE1';
const VERSION = 1;
const HEADER_BYTES = 72;
const SEGMENT_BYTES = 24;
const HASH_OFFSET = 40;
const HASH_BYTES = 32;
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
  /** Guest physical address of the first instruction; unused for programs. */
  entry: number;
  /** Default RAM size. */
  memoryBytes: number;
  /** Where each segment goes in guest memory and where its bytes stand in the file. */
  segments: { gpa: number; bytes: number; fileOffset: number }[];
  manifest: Manifest;
  /** The image's identity: hash of the file, hexadecimal. */
  sha256: string;
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

/** The file of an image. The same content gives the same bytes. Throws ERR_LOCKSTEP_IMAGE_TOO_LARGE. */
export function writeImage(content: ImageContent): Uint8Array {
  const manifest = Buffer.from(JSON.stringify(content.manifest));
  const segments = content.segments.filter((segment) => segment.bytes.length > 0);
  const memoryBytes = checkMemory(content.memoryMiB) * MIB;
  let end = roundUp(HEADER_BYTES + SEGMENT_BYTES * segments.length + manifest.length);
  const offsets = segments.map((segment) => {
    if (segment.gpa + segment.bytes.length > memoryBytes)
      throw tooLarge(segment.gpa + segment.bytes.length, content.memoryMiB);
    const offset = end;
    end += roundUp(segment.bytes.length);
    return offset;
  });
  const last = segments.at(-1);
  const total = last === undefined ? end : (offsets.at(-1) ?? 0) + last.bytes.length;

  const file = Buffer.alloc(total);
  file.write(MAGIC, 0, 'latin1');
  file.writeUInt32LE(VERSION, 8);
  file.writeUInt32LE(MODES.indexOf(content.mode), 12);
  file.writeBigUInt64LE(BigInt(content.entry), 16);
  file.writeBigUInt64LE(BigInt(memoryBytes), 24);
  file.writeUInt32LE(segments.length, 32);
  file.writeUInt32LE(manifest.length, 36);
  segments.forEach((segment, i) => {
    const at = HEADER_BYTES + SEGMENT_BYTES * i;
    const offset = offsets[i] ?? 0;
    file.writeBigUInt64LE(BigInt(segment.gpa), at);
    file.writeBigUInt64LE(BigInt(segment.bytes.length), at + 8);
    file.writeBigUInt64LE(BigInt(offset), at + 16);
    file.set(segment.bytes, offset);
  });
  manifest.copy(file, HEADER_BYTES + SEGMENT_BYTES * segments.length);
  Buffer.from(hashOf(file), 'hex').copy(file, HASH_OFFSET);
  return file;
}

/**
 * Reads an image and checks all of it: magic, version, hash, bounds, manifest.
 * Throws ERR_LOCKSTEP_NOT_AN_IMAGE with what is wrong.
 */
export function inspectImage(content: Uint8Array, name = 'The image'): ImageInfo {
  const file = Buffer.from(content.buffer, content.byteOffset, content.byteLength);
  if (file.length < HEADER_BYTES || file.toString('latin1', 0, 8) !== MAGIC) {
    throw notAnImage(name, 'is not a Lockstep image', 'Make one with `lockstep image`.');
  }
  const version = file.readUInt32LE(8);
  if (version !== VERSION)
    throw notAnImage(
      name,
      `has version ${version}; this Lockstep reads version ${VERSION}`,
      'Pack it again.',
    );
  const sha256 = file.toString('hex', HASH_OFFSET, HASH_OFFSET + HASH_BYTES);
  if (hashOf(file) !== sha256)
    throw notAnImage(name, 'is damaged or cut off: its hash is wrong', 'Copy or pack it again.');

  const mode = MODES[file.readUInt32LE(12)];
  const memoryBytes = Number(file.readBigUInt64LE(24));
  const count = file.readUInt32LE(32);
  const manifestStart = HEADER_BYTES + SEGMENT_BYTES * count;
  const manifestEnd = manifestStart + file.readUInt32LE(36);
  if (mode === undefined) throw notAnImage(name, 'has an unknown start mode');
  if (memoryBytes === 0 || memoryBytes % (2 * MIB) !== 0)
    throw notAnImage(name, 'has a memory size that is no multiple of 2 MiB');
  if (manifestEnd > file.length) throw notAnImage(name, 'is cut off');
  const segments = Array.from({ length: count }, (_, i) => {
    const at = HEADER_BYTES + SEGMENT_BYTES * i;
    const [gpa, bytes, fileOffset] = [0, 8, 16].map((o) => Number(file.readBigUInt64LE(at + o))) as [
      number,
      number,
      number,
    ];
    const inFile = fileOffset >= manifestEnd && fileOffset % PAGE === 0 && fileOffset + bytes <= file.length;
    if (!inFile || gpa + bytes > memoryBytes) throw notAnImage(name, `has a bad segment ${i}`);
    return { gpa, bytes, fileOffset };
  });
  const entry = Number(file.readBigUInt64LE(16));
  return {
    mode,
    entry,
    memoryBytes,
    segments,
    manifest: readManifest(file.toString('utf8', manifestStart, manifestEnd), name),
    sha256,
  };
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

/** SHA-256 of the file with the hash's own bytes zero. */
function hashOf(file: Buffer): string {
  const hash = createHash('sha256');
  hash
    .update(file.subarray(0, HASH_OFFSET))
    .update(Buffer.alloc(HASH_BYTES))
    .update(file.subarray(HASH_OFFSET + HASH_BYTES));
  return hash.digest('hex');
}

function notAnImage(name: string, why: string, hint?: string): LockstepError {
  return new LockstepError('ERR_LOCKSTEP_NOT_AN_IMAGE', `${name} ${why}.`, { hint });
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / PAGE) * PAGE;
}
