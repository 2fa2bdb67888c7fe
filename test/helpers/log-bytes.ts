/** Takes a log's header apart and puts it together again, checksums right: for logs nobody would write. */

const PREAMBLE_BYTES = 80;

const TABLE = Uint32Array.from({ length: 256 }, (_, index) => {
  let crc = index;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc >>> 0;
});

export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ (TABLE[(crc ^ byte) & 0xff] as number);
  return ~crc >>> 0;
}

function sizes(log: Buffer): { options: number; image: number } {
  return { options: log.readUInt32LE(12), image: Number(log.readBigUInt64LE(24)) };
}

/** Where the frames begin. */
export function headerBytes(log: Buffer): number {
  const { options, image } = sizes(log);
  return PREAMBLE_BYTES + options + image + 4;
}

/** The log with other options, or another version. */
export function withHeader(
  log: Buffer,
  change: { version?: number; options?: (text: string) => string },
): Buffer {
  const { options: optionsBytes, image } = sizes(log);
  const end = PREAMBLE_BYTES + optionsBytes;
  const text = log.toString('latin1', PREAMBLE_BYTES, end);
  const options = Buffer.from(change.options?.(text) ?? text, 'latin1');
  const preamble = Buffer.from(log.subarray(0, PREAMBLE_BYTES));
  preamble.writeUInt32LE(change.version ?? preamble.readUInt32LE(8), 8);
  preamble.writeUInt32LE(options.length, 12);
  preamble.writeUInt32LE(crc32c(preamble.subarray(0, PREAMBLE_BYTES - 4)), PREAMBLE_BYTES - 4);
  const header = Buffer.concat([preamble, options, log.subarray(end, end + image)]);
  const checksum = Buffer.alloc(4);
  checksum.writeUInt32LE(crc32c(header));
  return Buffer.concat([header, checksum, log.subarray(headerBytes(log))]);
}
