/**
 * Lays an image's content out anew, so that what is needed first fills blocks of its own: pages that a program
 * touches lie scattered among others, and a block is fetched whole. Memory is the same as before, page for page.
 */
import {
  blockHash,
  IMAGE_BLOCK_BYTES,
  type ImageFront,
  inspectFront,
  writeFront,
} from '../image/image-file.js';
import { Group, type GroupOptions, groupsOf } from './groups.js';
import type { Place, ReadFile } from './places.js';

const PAGE = 4096;
const PAGES = IMAGE_BLOCK_BYTES / PAGE;
/** An image may have 65536; each is a mapping or a copy when it starts. */
const SEGMENTS_MAX = 16_384;
const ZEROS = -1;

export interface Arranged {
  front: Uint8Array;
  image: ImageFront;
  /** Of each block. */
  groups: Group[];
  /** Reads the new file's content. */
  read: ReadFile;
}

/** The image with its pages by groups, read as it is needed from the one that `read` reads. */
export async function arrange(
  image: ImageFront,
  places: readonly Place[],
  options: GroupOptions,
  read: ReadFile,
): Promise<Arranged> {
  const pages = groupsOf({ ...image, blockBytes: PAGE }, places, options);
  markShared(image, pages);
  for (let unit = 1; ; unit *= 2) {
    const order = inOrder(coarser(pages, unit));
    const segments = cutSegments(image, order);
    if (segments.length > SEGMENTS_MAX && unit < PAGES) continue;
    return await write(image, order, segments, read);
  }
}

interface Order {
  /** Which page of the old content stands at each place of the new, or ZEROS. */
  from: Int32Array;
  /** Where each page of the old content stands in the new. */
  to: Int32Array;
  groups: Group[];
}

/**
 * What is needed first in front; behind it all else where it was, with zeros where something was taken from: a
 * page that becomes needed, or no longer is, moves no other. Two versions of an image so keep what they share.
 */
function inOrder(pages: readonly Group[]): Order {
  const from: number[] = [];
  const groups: Group[] = [];
  for (const group of [Group.START, Group.SOON]) {
    pages.forEach((one, page) => {
      if (one === group) from.push(page);
    });
    while (from.length % PAGES !== 0) from.push(ZEROS);
    while (groups.length < from.length / PAGES) groups.push(group);
  }
  pages.forEach((group, page) => {
    from.push(group === Group.REST || group === Group.LAST ? page : ZEROS);
  });
  for (let block = groups.length; block * PAGES < from.length; block++) {
    const there = from.slice(block * PAGES, (block + 1) * PAGES).filter((page) => page !== ZEROS);
    const canWait = there.length > 0 && there.every((page) => pages[page] === Group.LAST);
    groups.push(canWait ? Group.LAST : Group.REST);
  }
  const to = new Int32Array(pages.length);
  from.forEach((page, at) => {
    if (page !== ZEROS) to[page] = at;
  });
  return { from: Int32Array.from(from), to, groups };
}

/** Segments that begin within a page are put into memory before anything runs, and so is what shares it. */
function markShared({ segments, contentOffset }: ImageFront, pages: Group[]): void {
  for (const { gpa, bytes, fileOffset } of segments) {
    if (gpa % PAGE === 0) continue;
    const first = (fileOffset - contentOffset) / PAGE;
    for (let page = first; page < first + bytes / PAGE; page++) pages[page] = Group.START;
  }
}

/** So many pages together have the group of that which is needed first. */
function coarser(pages: readonly Group[], unit: number): readonly Group[] {
  if (unit === 1) return pages;
  return pages.map((_, page) => {
    const start = page - (page % unit);
    return Math.min(...pages.slice(start, start + unit)) as Group;
  });
}

/** A segment's pages as far as they stay side by side. */
function cutSegments(image: ImageFront, { to }: Order): { gpa: number; bytes: number; offset: number }[] {
  return image.segments.flatMap(({ gpa, bytes, fileOffset }) => {
    const first = (fileOffset - image.contentOffset) / PAGE;
    const pieces: { gpa: number; bytes: number; offset: number }[] = [];
    for (let done = 0; done < bytes; done += PAGE) {
      const offset = (to[first + done / PAGE] as number) * PAGE;
      const length = Math.min(PAGE, bytes - done);
      const last = pieces.at(-1);
      if (last !== undefined && last.offset + last.bytes === offset) last.bytes += length;
      else pieces.push({ gpa: gpa + done, bytes: length, offset });
    }
    return pieces;
  });
}

async function write(
  old: ImageFront,
  { from, groups }: Order,
  segments: { gpa: number; bytes: number; offset: number }[],
  read: ReadFile,
): Promise<Arranged> {
  const contentBytes = from.length * PAGE;
  const readContent = (at: number, bytes: number) => gather(old, from, at, bytes, read);
  const hashes: Buffer[] = [];
  for (let at = 0; at < contentBytes; at += IMAGE_BLOCK_BYTES)
    hashes.push(blockHash(await readContent(at, Math.min(IMAGE_BLOCK_BYTES, contentBytes - at))));
  const { mode, entry, memoryBytes, manifest, state } = old;
  const blockHashes = Buffer.concat(hashes);
  const front = writeFront({
    mode,
    entry,
    memoryBytes,
    contentBytes,
    segments,
    manifest,
    state,
    blockHashes,
  });
  const image = inspectFront(front);
  return { front, image, groups, read: (at, bytes) => readContent(at - image.contentOffset, bytes) };
}

/** Whole pages of the new content, in as few reads of the old as they allow. */
async function gather(
  { contentOffset }: ImageFront,
  from: Int32Array,
  offset: number,
  bytes: number,
  read: ReadFile,
): Promise<Uint8Array> {
  const result = new Uint8Array(bytes);
  const end = (offset + bytes) / PAGE;
  for (let at = offset / PAGE; at < end; ) {
    const page = from[at] as number;
    let count = 1;
    while (at + count < end && page !== ZEROS && from[at + count] === page + count) count++;
    if (page !== ZEROS) result.set(await read(contentOffset + page * PAGE, count * PAGE), at * PAGE - offset);
    at += count;
  }
  return result;
}
