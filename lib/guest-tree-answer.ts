/** What the guest kernel answers when it is asked for a directory and all below it. */
import { constants } from 'node:fs';
import { LockstepError } from './errors.js';

/** One file, directory or symbolic link of a tree. */
export interface GuestTreeEntry {
  /** Relative to the path that was asked for, which itself comes first, as ''. Directories come before what they hold. */
  name: string;
  /** 'other': a pipe, a socket, a device, or a file of /proc. */
  type: 'file' | 'directory' | 'link' | 'other';
  /** Permissions, such as 0o644. */
  mode: number;
  /** A file's; empty for all else. */
  contents: Uint8Array;
  /** A symbolic link's, as it stands there. */
  target?: string;
}

const TYPES = new Map<number, GuestTreeEntry['type']>([
  [constants.S_IFREG, 'file'],
  [constants.S_IFDIR, 'directory'],
  [constants.S_IFLNK, 'link'],
]);

/** `struct ls_tree_entry` of native/guest/abi.h. */
const HEAD_BYTES = 16;

function malformed(): LockstepError {
  return new LockstepError('ERR_LOCKSTEP_GUEST_FILE', "the guest's answer is no tree of files");
}

/** Whoever writes these names to a disk must stay below the directory chosen, whatever the guest says. */
function checkName(name: string, directories: Set<string>, seen: Set<string>): void {
  const slash = name.lastIndexOf('/');
  const last = name.slice(slash + 1);
  const parent = slash < 0 ? '' : name.slice(0, slash);
  if (last === '' || last === '.' || last === '..' || name.includes('\0')) throw malformed();
  if (!directories.has(parent) || seen.has(name) || name.startsWith('/')) throw malformed();
}

export function parseTree(bytes: Uint8Array): GuestTreeEntry[] {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const entries: GuestTreeEntry[] = [];
  const directories = new Set<string>();
  const seen = new Set<string>();
  let at = 0;
  const take = (length: number) => {
    if (length > buffer.length - at) throw malformed();
    at += length;
    return buffer.subarray(at - length, at);
  };
  while (at < buffer.length) {
    const head = take(HEAD_BYTES);
    const mode = head.readUInt32LE(0);
    const name = take(head.readUInt32LE(4)).toString();
    const contents = take(Number(head.readBigUInt64LE(8)));
    const type = TYPES.get(mode & constants.S_IFMT) ?? 'other';
    if (entries.length > 0) checkName(name, directories, seen);
    else if (name !== '') throw malformed();
    seen.add(name);
    if (type === 'directory') directories.add(name);
    const link = type === 'link' ? { target: contents.toString(), contents: new Uint8Array() } : { contents };
    entries.push({ name, type, mode: mode & 0o7777, ...link });
  }
  if (entries.length === 0) throw malformed();
  return entries;
}
