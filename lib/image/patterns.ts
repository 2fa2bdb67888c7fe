/**
 * Finds the byte patterns of the instructions that the packer looks for. A pattern is only a
 * suspicion: constants, tables and the insides of other instructions hold the same bytes 3 to
 * 20 times as often. It saves decoding whatever holds none.
 */

/** A place where the opcode bytes of such an instruction stand. */
export interface Pattern {
  /** Of the first opcode byte (0F, or C7 for XBEGIN); prefixes may stand before it. */
  offset: number;
  /** What the bytes would mean. */
  instruction: string;
  /** One of those that the packer replaces (the others it only lists). */
  replaceable: boolean;
}

/** All patterns with their first byte in [start, end) of the file, in order. */
export function findPatterns(bytes: Buffer, start: number, end: number): Pattern[] {
  const patterns: Pattern[] = [];
  for (let at = bytes.indexOf(0x0f, start); at >= 0 && at + 1 < end; at = bytes.indexOf(0x0f, at + 1)) {
    const second = bytes[at + 1] ?? 0;
    const third = at + 2 < end ? (bytes[at + 2] ?? 0) : -1;
    const replaceable = replaceableName(second, third);
    const instruction = replaceable ?? watchedName(second, third);
    if (instruction !== null) patterns.push({ offset: at, instruction, replaceable: replaceable !== null });
  }
  const found = patterns.length;
  for (let at = bytes.indexOf(XBEGIN, start); at >= 0 && at + 5 < end; at = bytes.indexOf(XBEGIN, at + 1)) {
    patterns.push({ offset: at, instruction: 'xbegin', replaceable: false });
  }
  if (patterns.length > found) patterns.sort((a, b) => a.offset - b.offset);
  return patterns;
}

const XBEGIN = Buffer.from([0xc7, 0xf8]);

function replaceableName(second: number, third: number): string | null {
  if (second === 0xa2) return 'cpuid';
  if (second === 0x31) return 'rdtsc';
  if (second === 0x01 && third === 0xf9) return 'rdtscp';
  if (second !== 0xc7 || third < 0xf0) return null;
  return third < 0xf8 ? 'rdrand' : 'rdseed or rdpid';
}

function watchedName(second: number, third: number): string | null {
  const extension = (third >> 3) & 7;
  const inMemory = third < 0xc0;
  switch (second) {
    case 0x00:
      return third < 0 || extension > 1 ? null : extension === 0 ? 'sldt' : 'str';
    case 0x01:
      if (third === 0xd0) return 'xgetbv';
      if (third === 0xfd) return 'rdpru';
      if (extension === 4) return 'smsw';
      return !inMemory || extension > 1 || third < 0 ? null : extension === 0 ? 'sgdt' : 'sidt';
    case 0x03:
      return 'lsl';
    case 0xae:
      if (inMemory) return extension === 4 ? 'xsave' : extension === 6 ? 'xsaveopt' : null;
      return extension === 6 ? 'tpause or umwait' : null;
    case 0xc7:
      return !inMemory ? null : extension === 4 ? 'xsavec' : extension === 5 ? 'xsaves' : null;
    default:
      return null;
  }
}
