/**
 * Function ranges out of .eh_frame. Every compiled function has an entry there, and stripping
 * does not remove it: it is what tells code from data when no symbols are left.
 */
import { type ElfFile, fileOffsetOf, PT_GNU_EH_FRAME, PT_LOAD } from './elf.js';

/** One FDE: the bytes [start, end) of a function, as virtual addresses. */
export interface FunctionRange {
  start: number;
  end: number;
}

/** How an encoded pointer is stored and what it is relative to (DW_EH_PE_). */
const OMIT = 0xff;
const PC_RELATIVE = 0x10;
const DATA_RELATIVE = 0x30;
const INDIRECT = 0x80;

/**
 * All FDE ranges of a file, sorted by start. Finds .eh_frame by section header, else by
 * PT_GNU_EH_FRAME, else (a static program without section headers) by the look of its first
 * CIE. Entries it cannot read are left out; a file without .eh_frame gives an empty list.
 */
export function functionRanges(elf: ElfFile): FunctionRange[] {
  const ranges: FunctionRange[] = [];
  for (const place of findEhFrame(elf)) readEhFrame(elf.bytes, place, ranges);
  ranges.sort((a, b) => a.start - b.start || a.end - b.end);
  return ranges;
}

interface Place {
  offset: number;
  end: number;
  address: number;
}

function findEhFrame(elf: ElfFile): Place[] {
  const section = elf.sections.filter((s) => s.name === '.eh_frame' && s.type !== 8);
  if (section.length > 0)
    return section.map((s) => ({ offset: s.offset, end: s.offset + s.bytes, address: s.address }));

  const header = elf.segments.find((s) => s.type === PT_GNU_EH_FRAME);
  if (header !== undefined && header.offset + 12 <= elf.bytes.length && elf.bytes[header.offset] === 1) {
    const pointer = readPointer(
      elf.bytes,
      header.offset + 4,
      elf.bytes[header.offset + 1] ?? OMIT,
      header.vaddr + 4,
      header.vaddr,
    );
    const place = pointer === null ? null : placeAt(elf, pointer.value);
    if (place !== null) return [place];
  }
  return guessEhFrame(elf);
}

/** From an address to the end of the segment that holds it. */
function placeAt(elf: ElfFile, address: number): Place | null {
  const offset = fileOffsetOf(elf, address);
  const segment = elf.segments.find(
    (s) => s.type === PT_LOAD && address >= s.vaddr && address < s.vaddr + s.fileBytes,
  );
  return offset === null || segment === undefined
    ? null
    : { offset, end: segment.offset + segment.fileBytes, address };
}

/** The first CIE of a C program: length, id 0, version 1, augmentation "zR" or "zPLR". */
function guessEhFrame(elf: ElfFile): Place[] {
  for (const pattern of ['\0\0\0\0\u0001zR\0', '\0\0\0\0\u0001zPLR\0']) {
    for (const s of elf.segments) {
      if (s.type !== PT_LOAD) continue;
      const at = elf.bytes.subarray(0, s.offset + s.fileBytes).indexOf(pattern, s.offset, 'latin1');
      if (at < s.offset + 4) continue;
      const offset = at - 4;
      return [{ offset, end: s.offset + s.fileBytes, address: offset - s.offset + s.vaddr }];
    }
  }
  return [];
}

function readEhFrame(bytes: Buffer, place: Place, ranges: FunctionRange[]): void {
  const encodings = new Map<number, number>();
  let at = place.offset;
  while (at + 8 <= place.end) {
    const length = bytes.readUInt32LE(at);
    // A zero length ends the table. (0xffffffff, the 64-bit form, is not used by any x86-64 tool.)
    if (length === 0 || length === 0xffffffff) return;
    const next = at + 4 + length;
    if (next > place.end) return;
    const id = bytes.readUInt32LE(at + 4);
    if (id === 0) {
      encodings.set(at, cieEncoding(bytes, at + 8, next));
    } else {
      const encoding = encodings.get(at + 4 - id);
      if (encoding !== undefined) readFde(bytes, at + 8, next, encoding, place, ranges);
    }
    at = next;
  }
}

function readFde(
  bytes: Buffer,
  at: number,
  end: number,
  encoding: number,
  place: Place,
  ranges: FunctionRange[],
): void {
  const start = readPointer(bytes, at, encoding, at - place.offset + place.address, 0);
  if (start === null || start.next > end) return;
  // The length has the same size as the pointer and is relative to nothing.
  const size = readPointer(bytes, start.next, encoding & 0x0f, 0, 0);
  if (size === null || size.next > end || size.value <= 0) return;
  ranges.push({ start: start.value, end: start.value + size.value });
}

/** The pointer encoding a CIE gives its FDEs; absolute 8-byte pointers when it names none. */
function cieEncoding(bytes: Buffer, start: number, end: number): number {
  const version = bytes[start];
  const stop = bytes.indexOf(0, start + 1);
  if (stop < 0 || stop >= end) return OMIT;
  const augmentation = bytes.toString('latin1', start + 1, stop);
  if (!augmentation.startsWith('z')) return augmentation === '' ? 0 : OMIT;
  let at = stop + 1;
  at = skipLeb(bytes, at); // code alignment
  at = skipLeb(bytes, at); // data alignment
  at = version === 1 ? at + 1 : skipLeb(bytes, at); // return address register
  at = skipLeb(bytes, at); // augmentation length
  for (const letter of augmentation.slice(1)) {
    if (at >= end) return OMIT;
    if (letter === 'R') return bytes[at] ?? OMIT;
    if (letter === 'L') at += 1;
    else if (letter === 'P') {
      const personality = readPointer(bytes, at + 1, (bytes[at] ?? OMIT) & 0x0f, 0, 0);
      if (personality === null) return OMIT;
      at = personality.next;
    } else if (letter !== 'S' && letter !== 'B') return OMIT;
  }
  return 0;
}

function skipLeb(bytes: Buffer, at: number): number {
  let i = at;
  while (i < bytes.length && (bytes[i] ?? 0) >= 0x80) i++;
  return i + 1;
}

interface Pointer {
  value: number;
  next: number;
}

/** Reads a DW_EH_PE_ pointer; null for what no x86-64 tool writes (indirect, text-relative, LEB). */
function readPointer(bytes: Buffer, at: number, encoding: number, pc: number, data: number): Pointer | null {
  if (encoding === OMIT || (encoding & INDIRECT) !== 0) return null;
  const base = (encoding & 0x70) === PC_RELATIVE ? pc : (encoding & 0x70) === DATA_RELATIVE ? data : 0;
  if ((encoding & 0x70) !== 0 && (encoding & 0x70) !== PC_RELATIVE && (encoding & 0x70) !== DATA_RELATIVE)
    return null;
  const size = [8, 0, 2, 4, 8][encoding & 7] ?? 0;
  if (size === 0 || at + size > bytes.length) return null;
  const signed = (encoding & 8) !== 0;
  const raw =
    size === 2
      ? signed
        ? bytes.readInt16LE(at)
        : bytes.readUInt16LE(at)
      : size === 4
        ? signed
          ? bytes.readInt32LE(at)
          : bytes.readUInt32LE(at)
        : Number(bytes.readBigInt64LE(at));
  return { value: base + raw, next: at + size };
}
