/** Bytes that look like branches. Guesses: every real branch is among them, and the decoder tells which are real. */
import type { ElfSegment } from './elf.js';

/** Bytes that look like a short JMP, Jcc or LOOP to one of the addresses from `first` to `last`: where they stand. */
export function shortBranches(
  bytes: Buffer,
  segment: ElfSegment,
  first: number,
  last: number,
): { from: number; target: number }[] {
  const found: { from: number; target: number }[] = [];
  const bias = segment.vaddr - segment.offset;
  const end = Math.min(last + 127, segment.vaddr + segment.fileBytes - 1);
  for (let from = Math.max(first - 129, segment.vaddr); from < end; from++) {
    const byte = bytes[from - bias] ?? 0;
    if (byte !== 0xeb && (byte & 0xf0) !== 0x70 && (byte & 0xfc) !== 0xe0) continue;
    const target = from + 2 + bytes.readInt8(from - bias + 1);
    if (target >= first && target <= last) found.push({ from, target });
  }
  return found;
}

/**
 * Where bytes stand that look like a near CALL, JMP or Jcc to a place in the same segment that
 * `accept` takes.
 */
export function branches(bytes: Buffer, segment: ElfSegment, accept: (target: number) => boolean): number[] {
  const found: number[] = [];
  const bias = segment.vaddr - segment.offset;
  const end = segment.offset + segment.fileBytes;
  // Within 16 MiB the highest byte of a displacement is 0 or ff: most look-alikes end there.
  const isSmall = segment.fileBytes < 2 ** 24;
  for (let at = segment.offset; at + 5 <= end; at++) {
    const highest = bytes[at + 4] as number;
    if (isSmall && highest !== 0 && highest !== 0xff) continue;
    const byte = bytes[at] as number;
    if ((byte & 0xfe) !== 0xe8 && ((byte & 0xf0) !== 0x80 || bytes[at - 1] !== 0x0f)) continue;
    const target = at + 5 + bytes.readInt32LE(at + 1);
    if (target >= segment.offset && target < end && accept(target + bias)) found.push(at + bias);
  }
  return found;
}
