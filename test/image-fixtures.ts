/** Small ELF files made here: what the packer's tests cannot find installed. */

export interface SegmentSpec {
  vaddr: number;
  paddr?: number;
  flags: number;
  bytes: Uint8Array;
  memoryBytes?: number;
}

/** An ELF64 file with the given PT_LOADs and no section headers. */
export function makeElf(entry: number, segments: SegmentSpec[], type = 2): Uint8Array {
  const start = 64 + 56 * segments.length;
  const total = segments.reduce((sum, segment) => sum + segment.bytes.length, start);
  const file = Buffer.alloc(total);
  file.write('\x7fELF\x02\x01\x01', 'latin1');
  file.writeUInt16LE(type, 16);
  file.writeUInt16LE(62, 18);
  file.writeUInt32LE(1, 20);
  file.writeBigUInt64LE(BigInt(entry), 24);
  file.writeBigUInt64LE(64n, 32);
  file.writeUInt16LE(64, 52);
  file.writeUInt16LE(56, 54);
  file.writeUInt16LE(segments.length, 56);
  let offset = start;
  segments.forEach((segment, i) => {
    const at = 64 + 56 * i;
    file.writeUInt32LE(1, at);
    file.writeUInt32LE(segment.flags, at + 4);
    file.writeBigUInt64LE(BigInt(offset), at + 8);
    file.writeBigUInt64LE(BigInt(segment.vaddr), at + 16);
    file.writeBigUInt64LE(BigInt(segment.paddr ?? segment.vaddr), at + 24);
    file.writeBigUInt64LE(BigInt(segment.bytes.length), at + 32);
    file.writeBigUInt64LE(BigInt(segment.memoryBytes ?? segment.bytes.length), at + 40);
    file.set(segment.bytes, offset);
    offset += segment.bytes.length;
  });
  return file;
}

/** Enough of a guest kernel for the packer: a header at its place and zeroed memory up to 3.5 MiB. */
export function makeKernel(magic = 'LSKERN1\0', abiVersion = 1): Uint8Array {
  const bytes = Buffer.alloc(512);
  bytes.write(magic, 'latin1');
  bytes.writeUInt32LE(abiVersion, 8);
  return makeElf(0x7e0000100200, [{ vaddr: 0x7e0000100000, flags: 5, bytes, memoryBytes: 0x280000 }]);
}

/** The code of a program at 0x400000, entered at its first byte. */
export function makeProgram(code: number[]): Uint8Array {
  return makeElf(0x400000, [{ vaddr: 0x400000, flags: 5, bytes: Uint8Array.from(code) }]);
}
