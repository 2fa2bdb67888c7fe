/** Writes cpio archives ("newc"): the guest's first file system. Same entries, same bytes. */
import { LockstepError } from '../errors.js';

export const S_IFMT = 0o170000;
export const S_IFDIR = 0o040000;
export const S_IFREG = 0o100000;
export const S_IFLNK = 0o120000;

const PAGE = 4096;
const HEADER_BYTES = 110;

/** 2020-01-01T00:00:00Z, in seconds: the time of every file unless another is given. */
export const DEFAULT_MTIME_SECONDS = 1577836800;

/** One file, directory or symbolic link. */
export interface CpioEntry {
  /** Absolute and normalised: `/bin/busybox`. */
  path: string;
  /** Type and permission bits as in stat(2). */
  mode: number;
  /** A file's contents, a link's target; empty for a directory. */
  data: Uint8Array;
}

export interface CpioOptions {
  /** Of every entry, in seconds since 1970. Default: 2020-01-01. */
  mtimeSeconds?: number;
}

/** What every guest finds, whatever is packed. */
const STANDARD: readonly [string, number][] = [
  ['/dev', 0o755],
  ['/etc', 0o755],
  ['/proc', 0o555],
  ['/root', 0o700],
  ['/tmp', 0o1777],
];

/**
 * Completes a list of entries: sorted by the bytes of their paths, the directories above each
 * and the standard ones added. A directory given twice counts once.
 * Throws ERR_LOCKSTEP_INVALID_ARGUMENT when two entries want the same path or a file stands
 * where a directory must be.
 */
export function completeTree(entries: readonly CpioEntry[]): CpioEntry[] {
  const tree = new Map<string, CpioEntry>();
  for (const entry of entries) {
    const other = tree.get(entry.path);
    if (entry.path === '/') continue;
    if (other !== undefined && !(isDirectory(other) && isDirectory(entry)))
      throw conflict(entry.path, 'is packed twice');
    tree.set(entry.path, other ?? entry);
  }
  for (const [path, permissions] of STANDARD) addDirectory(tree, path, permissions);
  for (const path of [...tree.keys()]) {
    for (let at = path.indexOf('/', 1); at > 0; at = path.indexOf('/', at + 1))
      addDirectory(tree, path.slice(0, at), 0o755);
  }
  return [...tree.values()].sort((a, b) => Buffer.compare(Buffer.from(a.path), Buffer.from(b.path)));
}

/** The archive of a completed tree. Inodes count from 1, everything belongs to root. */
export function writeCpio(entries: readonly CpioEntry[], options: CpioOptions = {}): Uint8Array {
  const mtime = options.mtimeSeconds ?? DEFAULT_MTIME_SECONDS;
  const archive: Archive = { parts: [], bytes: 0 };
  entries.forEach((entry, i) => {
    append(
      archive,
      entry.path.slice(1),
      { inode: i + 1, mode: entry.mode, links: isDirectory(entry) ? 2 : 1, mtime },
      entry.data,
    );
  });
  append(archive, 'TRAILER!!!', { inode: 0, mode: 0, links: 1, mtime: 0 }, new Uint8Array(0));
  archive.parts.push(new Uint8Array((512 - (archive.bytes % 512)) % 512));
  return Buffer.concat(archive.parts);
}

interface Archive {
  parts: Uint8Array[];
  bytes: number;
}

interface Fields {
  inode: number;
  mode: number;
  links: number;
  mtime: number;
}

/** The contents of a file of a page or more begin at a page, so that the guest can map them where they lie. */
function append(
  archive: Archive,
  path: string,
  { inode, mode, links, mtime }: Fields,
  data: Uint8Array,
): void {
  const text = Buffer.from(`${path}\0`);
  // The only padding that every reader of the format passes over is NULs after the name.
  const dataAt = archive.bytes + HEADER_BYTES + text.length;
  const isMappable = data.length >= PAGE && (mode & S_IFMT) === S_IFREG;
  const name = Buffer.concat([text, new Uint8Array(isMappable ? (PAGE - (dataAt % PAGE)) % PAGE : 0)]);
  // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
  const fields = [inode, mode, 0, 0, links, mtime, data.length, 0, 0, 0, 0, name.length, 0];
  const header = Buffer.from(
    `070701${fields.map((value) => value.toString(16).padStart(8, '0')).join('')}`,
    'latin1',
  );
  for (const part of [header, name, padding(HEADER_BYTES + name.length), data, padding(data.length)]) {
    archive.parts.push(part);
    archive.bytes += part.length;
  }
}

function padding(bytes: number): Uint8Array {
  return new Uint8Array((4 - (bytes % 4)) % 4);
}

function isDirectory(entry: CpioEntry): boolean {
  return (entry.mode & S_IFMT) === S_IFDIR;
}

function addDirectory(tree: Map<string, CpioEntry>, path: string, permissions: number): void {
  const present = tree.get(path);
  if (present === undefined) tree.set(path, { path, mode: S_IFDIR | permissions, data: new Uint8Array(0) });
  else if (!isDirectory(present))
    throw conflict(path, 'must be a directory in the guest, and a file or link is packed there');
}

function conflict(path: string, why: string): LockstepError {
  return new LockstepError('ERR_LOCKSTEP_INVALID_ARGUMENT', `${path} ${why}.`, {
    hint: 'Give one of the files another path in the guest: --file HOST:GUEST.',
  });
}
