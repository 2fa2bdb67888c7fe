/** The guest's first file system (struct ls_archive in native/guest/abi.h): an index, and contents apart from it. */
import { hash } from 'node:crypto';
import { type FileEntry, isDirectory, S_IFDIR, S_IFLNK, S_IFMT } from './file-entries.js';
import { IMAGE_BLOCK_BYTES } from './image-file.js';
import { LS_ARCHIVE_MAGIC } from './ports.js';

const PAGE = 4096;
const HEADER_BYTES = 40;
const ENTRY_BYTES = 24;
/** Behind one of so many files the next begins with a block; of files smaller than a page, one of many more. */
const GROUP = 16;
const SMALL_GROUP = 128;

/** 2020-01-01T00:00:00Z, in seconds: the time of every file unless another is given. */
export const DEFAULT_MTIME_SECONDS = 1577836800;

export interface Archive {
  index: Uint8Array;
  contents: Uint8Array;
  /** Guest physical address of the contents. */
  contentsGpa: number;
}

/** A file, directory or symbolic link of an archive. */
export interface ArchivedFile {
  /** Absolute: `/bin/busybox`. */
  path: string;
  /** Type and permission bits as in stat(2). */
  mode: number;
  /** Of a directory: how many entries it has. */
  bytes: number;
  /** Where its bytes begin in the contents; 0 for a directory. */
  at: number;
}

/** The archive of a completed tree, its index at guest physical address `gpa`. Same tree, same bytes. */
export function writeArchive(tree: readonly FileEntry[], gpa: number, mtimeSeconds: number): Archive {
  const { order, firsts } = breadthFirst(tree);
  const names = order.map(({ path }) => Buffer.from(path.slice(path.lastIndexOf('/') + 1)));
  const nameBytes = names.reduce((sum, name) => sum + name.length, 0);
  const places = placeContents(order);
  const index = Buffer.alloc(HEADER_BYTES + ENTRY_BYTES * order.length + nameBytes);
  const contentsGpa = roundUp(gpa + index.length, PAGE);

  index.writeBigUInt64LE(LS_ARCHIVE_MAGIC, 0);
  index.writeUInt32LE(order.length, 8);
  index.writeUInt32LE(nameBytes, 12);
  index.writeBigUInt64LE(BigInt(contentsGpa), 16);
  index.writeBigUInt64LE(BigInt(places.bytes), 24);
  index.writeBigUInt64LE(BigInt(mtimeSeconds), 32);
  let name = 0;
  order.forEach((entry, i) => {
    const at = HEADER_BYTES + ENTRY_BYTES * i;
    const children = firsts.get(entry);
    if (children === undefined) {
      index.writeBigUInt64LE(BigInt(places.at.get(entry) ?? 0), at);
      index.writeBigUInt64LE(BigInt(entry.data.length), at + 8);
    } else {
      const { first, count } = children;
      index.writeUInt32LE(first, at);
      index.writeUInt32LE(order.slice(first, first + count).filter(isDirectory).length, at + 4);
      index.writeBigUInt64LE(BigInt(count), at + 8);
    }
    const text = names[i] as Buffer;
    index.writeUInt32LE(name, at + 16);
    index.writeUInt16LE(text.length, at + 20);
    index.writeUInt16LE(entry.mode, at + 22);
    text.copy(index, HEADER_BYTES + ENTRY_BYTES * order.length + name);
    name += text.length;
  });

  const contents = Buffer.alloc(places.bytes);
  for (const [entry, at] of places.at) contents.set(entry.data, at);
  return { index, contents, contentsGpa };
}

/** What an index says, in its own order. The bytes are an image's that was checked. */
export function readArchive(index: Uint8Array): ArchivedFile[] {
  const view = Buffer.from(index.buffer, index.byteOffset, index.byteLength);
  const count = view.readUInt32LE(8);
  const names = HEADER_BYTES + ENTRY_BYTES * count;
  const above = new Map<number, string>();
  return Array.from({ length: count }, (_, i) => {
    const at = HEADER_BYTES + ENTRY_BYTES * i;
    const mode = view.readUInt16LE(at + 22);
    const bytes = Number(view.readBigUInt64LE(at + 8));
    const nameAt = names + view.readUInt32LE(at + 16);
    const name = view.toString('utf8', nameAt, nameAt + view.readUInt16LE(at + 20));
    const path = i === 0 ? '/' : `${above.get(i)}/${name}`;
    if ((mode & S_IFMT) !== S_IFDIR) return { path, mode, bytes, at: Number(view.readBigUInt64LE(at)) };
    const first = view.readUInt32LE(at);
    for (let child = first; child < first + bytes; child++) above.set(child, i === 0 ? '' : path);
    return { path, mode, bytes, at: 0 };
  });
}

/** Each directory's entries side by side, in their order in the tree, and where they begin. */
function breadthFirst(tree: readonly FileEntry[]): {
  order: FileEntry[];
  firsts: Map<FileEntry, { first: number; count: number }>;
} {
  const below = new Map<string, FileEntry[]>();
  for (const entry of tree) {
    const directory = entry.path.slice(0, entry.path.lastIndexOf('/'));
    const siblings = below.get(directory);
    if (siblings === undefined) below.set(directory, [entry]);
    else siblings.push(entry);
  }
  const order: FileEntry[] = [{ path: '', mode: S_IFDIR | 0o755, data: new Uint8Array(0) }];
  const firsts = new Map<FileEntry, { first: number; count: number }>();
  for (const entry of order) {
    if (!isDirectory(entry)) continue;
    const children = below.get(entry.path) ?? [];
    firsts.set(entry, { first: order.length, count: children.length });
    for (const child of children) order.push(child);
  }
  return { order, firsts };
}

/**
 * Links' targets first, for every path that runs through a link needs them; then what is smaller than a
 * page, packed together; then the rest, in pages of its own. Blocks are cut at fixed offsets, and those that
 * two versions of an image share need not be fetched twice. So large files begin with a block, and here and
 * there what comes next does: a file that grows moves no more than its neighbours.
 */
function placeContents(order: readonly FileEntry[]): { at: Map<FileEntry, number>; bytes: number } {
  const files = order.filter((entry) => !isDirectory(entry) && entry.data.length > 0);
  const isLink = (entry: FileEntry): boolean => (entry.mode & S_IFMT) === S_IFLNK;
  const isLarge = (entry: FileEntry): boolean => !isLink(entry) && entry.data.length >= PAGE;
  const at = new Map<FileEntry, number>();
  let end = 0;
  const place = (entry: FileEntry, unit: number, group: number): void => {
    end = roundUp(end, unit);
    at.set(entry, end);
    end += entry.data.length;
    if (pathHash(entry.path) % group === 0) end = roundUp(end, IMAGE_BLOCK_BYTES);
  };
  for (const entry of files.filter(isLink)) place(entry, 1, SMALL_GROUP);
  for (const entry of files) if (!isLink(entry) && !isLarge(entry)) place(entry, 1, SMALL_GROUP);
  end = roundUp(end, IMAGE_BLOCK_BYTES);
  for (const entry of files.filter(isLarge))
    place(entry, entry.data.length >= 2 * IMAGE_BLOCK_BYTES ? IMAGE_BLOCK_BYTES : PAGE, GROUP);
  return { at, bytes: roundUp(end, IMAGE_BLOCK_BYTES) };
}

/** The same in every version of an image. */
function pathHash(path: string): number {
  return hash('sha256', path, 'buffer').readUInt32LE(0);
}

function roundUp(bytes: number, unit: number): number {
  return Math.ceil(bytes / unit) * unit;
}
