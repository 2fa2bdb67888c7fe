/** Of an image's file: its front, and its blocks by their hashes. */
import type { FileHandle } from 'node:fs/promises';
import { frontBytes, IMAGE_HEADER_BYTES, type ImageFront } from '../image/image-file.js';

const HASH_BYTES = 32;

/** The front of an image's file. */
export async function readFront(file: FileHandle, name: string): Promise<Uint8Array> {
  const start = await readAt(file, 0, IMAGE_HEADER_BYTES);
  return readAt(file, 0, frontBytes(start, name));
}

/** As much as there is, up to `length` bytes. */
export async function readAt(file: FileHandle, position: number, length: number): Promise<Uint8Array> {
  const bytes = Buffer.alloc(length);
  let done = 0;
  for (;;) {
    const { bytesRead } = await file.read(bytes, done, length - done, position + done);
    done += bytesRead;
    if (bytesRead === 0 || done === length) return bytes.subarray(0, done);
  }
}

export function hashOf(image: ImageFront, block: number): string {
  const at = block * HASH_BYTES;
  return Buffer.from(image.blockHashes.subarray(at, at + HASH_BYTES)).toString('hex');
}
