/** The guest's files as the packer knows them, and how a list of them becomes a whole tree. */
import { LockstepError } from '../errors.js';

export const S_IFMT = 0o170000;
export const S_IFDIR = 0o040000;
export const S_IFREG = 0o100000;
export const S_IFLNK = 0o120000;

/** One file, directory or symbolic link. */
export interface FileEntry {
  /** Absolute and normalised: `/bin/busybox`. */
  path: string;
  /** Type and permission bits as in stat(2). */
  mode: number;
  /** A file's contents, a link's target; empty for a directory. */
  data: Uint8Array;
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
export function completeTree(entries: readonly FileEntry[]): FileEntry[] {
  const tree = new Map<string, FileEntry>();
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

export function isDirectory(entry: FileEntry): boolean {
  return (entry.mode & S_IFMT) === S_IFDIR;
}

function addDirectory(tree: Map<string, FileEntry>, path: string, permissions: number): void {
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
