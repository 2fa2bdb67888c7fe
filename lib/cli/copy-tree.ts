import { lstat, mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { GuestTreeEntry } from '../guest-tree-answer.js';
import { invalid } from '../options.js';

/**
 * Writes what was below a path of the guest to `to`, which must not be there yet: two trees are never mixed. Returns
 * the names that are neither files nor directories nor links, and were left out.
 */
export async function writeTree(entries: GuestTreeEntry[], to: string): Promise<string[]> {
  const there = await lstat(to).then(
    () => true,
    () => false,
  );
  if (there) throw invalid(`${to} exists already`, 'A directory is copied to a new place only.');
  const left: string[] = [];
  for (const { name, type, mode, contents, target } of entries) {
    const path = name === '' ? to : join(to, name);
    // Who copies must be able to fill it, whatever the guest's own mode is; and nobody becomes another by what is copied.
    if (type === 'directory') await mkdir(path, { mode: (mode & 0o777) | 0o700 });
    else if (type === 'file') await writeFile(path, contents, { mode: mode & 0o777, flag: 'wx' });
    else if (type === 'link') await symlink(target as string, path);
    else left.push(name);
  }
  return left;
}
