/** Reads the parts of an ELF64 x86-64 file that the packer needs; trusts nothing in it. */
import { LockstepError } from '../errors.js';

/** A program header. Addresses and sizes in bytes. */
export interface ElfSegment {
  type: number;
  flags: number;
  offset: number;
  vaddr: number;
  paddr: number;
  fileBytes: number;
  memoryBytes: number;
}

/** A section header, where the file still has them. */
export interface ElfSection {
  name: string;
  type: number;
  flags: number;
  address: number;
  offset: number;
  bytes: number;
  link: number;
}

/** A function symbol: STT_FUNC or STT_GNU_IFUNC, defined here. `bytes` is 0 when unknown. */
export interface ElfSymbol {
  name: string;
  address: number;
  bytes: number;
}

export interface ElfFile {
  /** For messages: the path, or whatever the caller calls it. */
  name: string;
  bytes: Buffer;
  /** ET_EXEC (2), ET_DYN (3), ... */
  type: number;
  entry: number;
  segments: ElfSegment[];
  sections: ElfSection[];
  functions: ElfSymbol[];
  /** PT_INTERP: the dynamic linker the program asks for. */
  interpreter: string | null;
}

export const PT_LOAD = 1;
export const PT_GNU_EH_FRAME = 0x6474e550;
export const PF_X = 1;
export const PF_W = 2;
export const PT_DYNAMIC = 2;
const PT_INTERP = 3;
export const ET_EXEC = 2;
export const ET_DYN = 3;
const EM_X86_64 = 62;
const SHT_SYMTAB = 2;
const SHT_NOBITS = 8;
const SHT_DYNSYM = 11;

const MACHINES: Record<number, string> = {
  3: 'i386',
  40: 'ARM',
  183: 'AArch64',
  243: 'RISC-V',
  21: 'PowerPC64',
  22: 's390',
};

/** True when the bytes begin as any ELF file does. */
export function isElf(bytes: Uint8Array): boolean {
  return (
    bytes.length >= 4 && bytes[0] === 0x7f && bytes[1] === 0x45 && bytes[2] === 0x4c && bytes[3] === 0x46
  );
}

/**
 * Parses an ELF64 x86-64 file of any type.
 * Throws ERR_LOCKSTEP_PROGRAM_NOT_RUNNABLE for any other file, a cut-off one included.
 */
export function parseElf(content: Uint8Array, name: string): ElfFile {
  const bytes = Buffer.from(content.buffer, content.byteOffset, content.byteLength);
  if (!isElf(bytes)) throw notElf(name, bytes);
  checkMachine(bytes, name);
  try {
    const segments = readSegments(bytes);
    for (const s of segments) {
      if (s.type === PT_LOAD && s.offset + s.fileBytes > bytes.length)
        throw new RangeError('a segment lies outside the file');
      // Near 2^53 numbers stop counting by one, and loops over addresses with them.
      if (s.type === PT_LOAD && s.vaddr + s.memoryBytes > 2 ** 47)
        throw new RangeError('a segment lies outside the address space');
      if (s.type === PT_LOAD && s.memoryBytes < s.fileBytes)
        throw new RangeError('a segment is larger in the file than in memory');
    }
    const sections = readSections(bytes);
    let functions: ElfSymbol[] | undefined;
    return {
      name,
      bytes,
      type: bytes.readUInt16LE(16),
      entry: u64(bytes, 24),
      segments,
      sections,
      // Read when asked for: who knows the sites of a program, or wants its segments, needs none.
      get functions() {
        functions ??= guardedFunctions(bytes, sections, name);
        return functions;
      },
      interpreter: readInterpreter(bytes, segments),
    };
  } catch (cause) {
    throw damaged(name, cause);
  }
}

function guardedFunctions(bytes: Buffer, sections: ElfSection[], name: string): ElfSymbol[] {
  try {
    return readFunctions(bytes, sections);
  } catch (cause) {
    throw damaged(name, cause);
  }
}

/** What reading a file threw, as an error that names the file; anything but a RangeError is a defect of ours. */
export function damaged(name: string, cause: unknown): unknown {
  if (!(cause instanceof RangeError)) return cause;
  return new LockstepError(
    'ERR_LOCKSTEP_PROGRAM_NOT_RUNNABLE',
    `${name} is a damaged or cut-off ELF file: ${cause.message}`,
    { cause, hint: 'Copy or install the file again.' },
  );
}

/** Where a virtual address lies in the file; null when no segment's file part holds it. */
export function fileOffsetOf(elf: ElfFile, address: number): number | null {
  for (const s of elf.segments)
    if (s.type === PT_LOAD && within(s, address)) return address - s.vaddr + s.offset;
  return null;
}

export function within(s: ElfSegment, address: number): boolean {
  return address >= s.vaddr && address < s.vaddr + s.fileBytes;
}

function notElf(name: string, bytes: Buffer): LockstepError {
  const what = bytes.length === 0 ? 'is empty' : 'is not an ELF file, nor a script that begins with #!';
  return new LockstepError('ERR_LOCKSTEP_PROGRAM_NOT_RUNNABLE', `${name} ${what}.`, {
    hint: 'Name an x86-64 Linux program, or a script that names its interpreter.',
  });
}

function checkMachine(bytes: Buffer, name: string): void {
  if (bytes.length < 20)
    throw new LockstepError('ERR_LOCKSTEP_PROGRAM_NOT_RUNNABLE', `${name} is cut off inside its ELF header.`);
  const machine = bytes.readUInt16LE(18);
  const wrong =
    bytes[5] !== 1
      ? 'is a big-endian ELF file'
      : machine !== EM_X86_64
        ? `is built for ${MACHINES[machine] ?? `ELF machine ${machine}`}`
        : bytes[4] !== 2
          ? 'is a 32-bit (x32) program'
          : null;
  if (wrong !== null) {
    throw new LockstepError(
      'ERR_LOCKSTEP_PROGRAM_NOT_RUNNABLE',
      `${name} ${wrong}; only 64-bit x86-64 programs run.`,
      {
        hint: 'Install the amd64 build of this program.',
      },
    );
  }
  if (bytes.length < 64)
    throw new LockstepError('ERR_LOCKSTEP_PROGRAM_NOT_RUNNABLE', `${name} is cut off inside its ELF header.`);
}

/** A 64-bit field as a number; what does not fit in 53 bits cannot be an address or size here. */
export function u64(bytes: Buffer, offset: number): number {
  const value = bytes.readUInt32LE(offset + 4) * 2 ** 32 + bytes.readUInt32LE(offset);
  if (value > Number.MAX_SAFE_INTEGER) throw new RangeError(`the value at offset ${offset} is out of range`);
  return value;
}

function readSegments(bytes: Buffer): ElfSegment[] {
  const start = u64(bytes, 32);
  const size = bytes.readUInt16LE(54);
  const segments: ElfSegment[] = [];
  for (let i = 0, at = start; i < bytes.readUInt16LE(56); i++, at += size) {
    if (size < 56) throw new RangeError('its program headers have a wrong size');
    segments.push({
      type: bytes.readUInt32LE(at),
      flags: bytes.readUInt32LE(at + 4),
      offset: u64(bytes, at + 8),
      vaddr: u64(bytes, at + 16),
      paddr: u64(bytes, at + 24),
      fileBytes: u64(bytes, at + 32),
      memoryBytes: u64(bytes, at + 40),
    });
  }
  return segments;
}

/** Section headers are optional: a file whose table is missing or cut off has none. */
function readSections(bytes: Buffer): ElfSection[] {
  const start = u64(bytes, 40);
  const size = bytes.readUInt16LE(58);
  const count = bytes.readUInt16LE(60);
  if (start === 0 || size < 64 || start + size * count > bytes.length) return [];
  const names: number[] = [];
  const sections: ElfSection[] = [];
  for (let i = 0, at = start; i < count; i++, at += size) {
    const type = bytes.readUInt32LE(at + 4);
    const section: ElfSection = {
      name: '',
      type,
      flags: bytes.readUInt32LE(at + 8),
      address: u64(bytes, at + 16),
      offset: u64(bytes, at + 24),
      bytes: u64(bytes, at + 32),
      link: bytes.readUInt32LE(at + 40),
    };
    if (type !== SHT_NOBITS && section.offset + section.bytes > bytes.length) return [];
    names.push(bytes.readUInt32LE(at));
    sections.push(section);
  }
  const table = sections[bytes.readUInt16LE(62)];
  if (table !== undefined && table.type !== SHT_NOBITS) {
    sections.forEach((s, i) => {
      s.name = stringAt(bytes, table.offset + (names[i] ?? 0), table.offset + table.bytes);
    });
  }
  return sections;
}

function readFunctions(bytes: Buffer, sections: ElfSection[]): ElfSymbol[] {
  const functions: ElfSymbol[] = [];
  for (const table of sections) {
    if (table.type !== SHT_SYMTAB && table.type !== SHT_DYNSYM) continue;
    const strings = sections[table.link];
    for (let at = table.offset; at + 24 <= table.offset + table.bytes; at += 24) {
      const type = (bytes[at + 4] ?? 0) & 15;
      if ((type !== 2 && type !== 10) || bytes.readUInt16LE(at + 6) === 0) continue;
      functions.push({
        name:
          strings === undefined
            ? ''
            : stringAt(bytes, strings.offset + bytes.readUInt32LE(at), strings.offset + strings.bytes),
        address: u64(bytes, at + 8),
        bytes: u64(bytes, at + 16),
      });
    }
  }
  return functions;
}

function readInterpreter(bytes: Buffer, segments: ElfSegment[]): string | null {
  const s = segments.find((segment) => segment.type === PT_INTERP);
  return s === undefined ? null : stringAt(bytes, s.offset, s.offset + s.fileBytes);
}

export function stringAt(bytes: Buffer, start: number, end: number): string {
  if (start >= end) return '';
  const stop = bytes.indexOf(0, start);
  return bytes.toString('utf8', start, stop < 0 || stop > end ? end : stop);
}
