/** What lies where in an image's memory, by names that mean the same in its next version. */
import { type ArchivedFile, readArchive } from '../image/archive.js';
import { S_IFDIR, S_IFMT } from '../image/file-entries.js';
import type { ImageInfo } from '../image/image-file.js';
import { LS_GPA_BOOT } from '../image/ports.js';

/** A file by its path; anything else by a word: `kernel`, `boot`, `strings`, `index`; `memory`: all of it. */
export interface Place {
  name: string;
  /** Guest physical address. */
  gpa: number;
  bytes: number;
}

type Front = Pick<ImageInfo, 'mode' | 'memoryBytes' | 'segments'>;

/** Bytes of the image's file. */
export type ReadFile = (offset: number, bytes: number) => Promise<Uint8Array>;

/** The places of an image, by address. Only a program's image, not yet started, knows files. */
export async function placesOf(front: Front, read: ReadFile): Promise<Place[]> {
  const everything = [{ name: 'memory', gpa: 0, bytes: front.memoryBytes }];
  if (front.mode !== 'program') return everything;
  const boot = await bytesAt(front, read, LS_GPA_BOOT, 48);
  const [indexGpa, indexBytes, stringsGpa] = [16, 24, 40].map((at) => number(boot, at)) as [
    number,
    number,
    number,
  ];
  const index = await bytesAt(front, read, indexGpa, indexBytes);
  const contentsGpa = number(index, 16);
  const kernel = front.segments.filter(({ gpa }) => gpa > LS_GPA_BOOT && gpa < stringsGpa);
  return [
    { name: 'boot', gpa: LS_GPA_BOOT, bytes: 4096 },
    ...kernel.map(({ gpa, bytes }) => ({ name: 'kernel', gpa, bytes })),
    { name: 'strings', gpa: stringsGpa, bytes: indexGpa - stringsGpa },
    { name: 'index', gpa: indexGpa, bytes: indexBytes },
    ...readArchive(index)
      .filter(hasContents)
      .map((file) => ({ name: file.path, gpa: contentsGpa + file.at, bytes: file.bytes })),
  ].sort((a, b) => a.gpa - b.gpa);
}

function hasContents(file: ArchivedFile): boolean {
  return (file.mode & S_IFMT) !== S_IFDIR && file.bytes > 0;
}

async function bytesAt(front: Front, read: ReadFile, gpa: number, bytes: number): Promise<Buffer> {
  const segment = front.segments.find((one) => one.gpa <= gpa && gpa + bytes <= one.gpa + one.bytes);
  if (segment === undefined) throw new RangeError(`the image has no ${bytes} bytes at ${gpa}`);
  const found = await read(segment.fileOffset + gpa - segment.gpa, bytes);
  return Buffer.from(found.buffer, found.byteOffset, found.byteLength);
}

function number(bytes: Buffer, at: number): number {
  return Number(bytes.readBigUInt64LE(at));
}
