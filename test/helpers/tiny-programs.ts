/** Static programs of a few bytes: their logs are small enough to try much on. */
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeElf } from '../image-fixtures.js';

/** The first byte after the headers, so that the file maps as it lies. */
const ENTRY = 0x400078;

const CODE = {
  // Copies stdin to stdout and exits with 7.
  cat: `4881ec00100000 31c0 31ff 4889e6 ba00100000 0f05 85c0 7e13 89c2 4889e6 bf01000000 b801000000 0f05 ebdb
        bf07000000 b83c000000 0f05`,
  // Reads 65536 bytes, then does nothing for ever: sub $65536,%rsp; xor %ebx,%ebx; read(0, %rsp, 65536 - %ebx)
  // and add until there are so many.
  spin: `4881ec00000100 31db 31c0 31ff 4889e6 ba00000100 29da 0f05 01c3 81fb00000100 7ce6 ebfe`,
  // Reads address 0.
  segv: '31c0 488b00',
  ud2: '0f0b',
  // System call 500, then exit(0).
  unknown: 'b8f4010000 0f05 31ff b83c000000 0f05',
};

/** Writes one of them to `directory`, executable. */
export function tinyProgram(directory: string, name: keyof typeof CODE): string {
  const bytes = Buffer.from(CODE[name].replace(/\s/g, ''), 'hex');
  const file = join(directory, name);
  writeFileSync(file, makeElf(ENTRY, [{ vaddr: ENTRY, flags: 5, bytes }]));
  chmodSync(file, 0o755);
  return file;
}
