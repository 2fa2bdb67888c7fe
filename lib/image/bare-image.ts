/** Images of bare guests: flat bytes or a static ELF file, with no kernel of ours. */
import { LockstepError } from '../errors.js';
import { type ElfSegment, PT_LOAD, parseElf } from './elf.js';
import { requireStaticProgram } from './elf-dynamic.js';
import { checkMemory, writeImage } from './image-file.js';
import { type BareManifest, PACKER_VERSION } from './manifest.js';

export interface FlatOptions {
  bytes: Uint8Array;
  /** 16-bit real mode, or 64-bit at CPL 0 with an identity map. */
  mode: 'real' | 'long';
  /** Guest physical address of the first byte. */
  loadAddress: number;
  /** Guest physical address of the first instruction. Default: `loadAddress`. */
  entry?: number;
  /** RAM size. Default: 256. */
  memoryMiB?: number;
}

export interface ElfImageOptions {
  /** The ELF file. */
  bytes: Uint8Array;
  /** What error messages call it. Default: `the ELF file`. */
  name?: string;
  /** RAM size. Default: 256. */
  memoryMiB?: number;
}

/**
 * The image of a flat program.
 * Throws ERR_LOCKSTEP_INVALID_ARGUMENT and ERR_LOCKSTEP_IMAGE_TOO_LARGE.
 */
export function fromFlat(options: FlatOptions): Uint8Array {
  const { bytes, mode, loadAddress, entry = loadAddress } = options;
  if (mode !== 'real' && mode !== 'long') throw invalid(`mode is '${mode}'`, "Take 'real' or 'long'.");
  if (bytes.length === 0) throw invalid('a flat image has no bytes');
  checkAddress('loadAddress', loadAddress);
  checkAddress('entry', entry);
  if (entry < loadAddress || entry >= loadAddress + bytes.length) {
    throw invalid(`entry 0x${entry.toString(16)} lies outside the loaded bytes`);
  }
  if (mode === 'real' && entry > 0xffff) {
    throw invalid(
      `entry 0x${entry.toString(16)} is above 0xffff`,
      'A real-mode guest starts with CS base 0 and a 16-bit IP.',
    );
  }
  return bareImage(mode, entry, options.memoryMiB, [{ gpa: loadAddress, bytes }]);
}

/**
 * The image of a static ELF64 file, started in long mode; each PT_LOAD goes to its physical
 * address. Throws ERR_LOCKSTEP_PROGRAM_NOT_RUNNABLE and ERR_LOCKSTEP_IMAGE_TOO_LARGE.
 */
export function fromElf(options: ElfImageOptions): Uint8Array {
  const elf = parseElf(options.bytes, options.name ?? 'the ELF file');
  requireStaticProgram(elf);
  const loads = elf.segments.filter((segment) => segment.type === PT_LOAD && segment.memoryBytes > 0);
  const memoryMiB = checkMemory(options.memoryMiB);
  const segments = loads.map((segment) => ({
    gpa: segment.paddr,
    bytes: elf.bytes.subarray(segment.offset, segment.offset + segment.fileBytes),
  }));
  const holds = (s: ElfSegment): boolean => elf.entry >= s.vaddr && elf.entry < s.vaddr + s.fileBytes;
  const home = loads.find(holds);
  // requireStaticProgram saw to it that the entry lies in a segment.
  const entry = elf.entry - (home?.vaddr ?? 0) + (home?.paddr ?? 0);
  return bareImage('long', entry, memoryMiB, segments);
}

function bareImage(
  mode: 'real' | 'long',
  entry: number,
  memory: number | undefined,
  segments: { gpa: number; bytes: Uint8Array }[],
): Uint8Array {
  const memoryMiB = checkMemory(memory);
  const manifest: BareManifest = {
    version: 1,
    kind: 'bare',
    packer: PACKER_VERSION,
    mode,
    entry: `0x${entry.toString(16)}`,
    memoryMiB,
  };
  return writeImage({ mode, entry, memoryMiB, segments, manifest });
}

function checkAddress(name: string, value: number): void {
  if (!Number.isSafeInteger(value) || value < 0) throw invalid(`${name} ${value} is not an address`);
}

function invalid(what: string, hint?: string): LockstepError {
  return new LockstepError('ERR_LOCKSTEP_INVALID_ARGUMENT', `Bad image: ${what}.`, { hint });
}
