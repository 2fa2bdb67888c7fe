/**
 * The guest's files while they are gathered: what is packed already lies over the host's own
 * tree, so that a path leads to the same file on both. Directory links of the host that a packed
 * path runs through (/lib to usr/lib) are packed as they are met.
 */
import type { Stats } from 'node:fs';
import { lstat, readFile, readlink } from 'node:fs/promises';
import path from 'node:path';
import { type FileEntry, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from './file-entries.js';
import { attempt, type Budget } from './host-files.js';

const LINKS_MAX = 40;

export interface TreeEntry extends FileEntry {
  /** Why it is in the image, for people. */
  why: string;
  /** Where it was read, where that is known. */
  host?: string;
  /** Time of the host's file, in whole seconds. Never enters the image. */
  hostSeconds?: number;
  /** Keep the bytes, whatever they are. */
  asData?: boolean;
}

/** Where a path leads in the guest: to something packed, or to a file of the host that may be. */
export interface Found {
  path: string;
  /** Links on the way that are not packed yet. */
  links: TreeEntry[];
  packed?: TreeEntry;
  host?: Stats;
}

export class GuestTree {
  readonly entries = new Map<string, TreeEntry>();
  /** All directories above entries. */
  readonly #directories = new Set<string>();
  readonly #budget: Budget;

  constructor(budget: Budget) {
    this.#budget = budget;
  }

  put(entry: TreeEntry): void {
    this.entries.set(entry.path, entry);
    for (let at = path.posix.dirname(entry.path); at !== '/'; at = path.posix.dirname(at))
      this.#directories.add(at);
  }

  /** Follows a path as the guest will; null when neither the guest nor the host has it. */
  async find(wanted: string): Promise<Found | null> {
    let rest = wanted.split('/').filter(Boolean);
    let at = '';
    const links: TreeEntry[] = [];
    let hops = 0;
    for (;;) {
      const name = rest.shift();
      if (name === undefined) return this.#directory(at || '/', links);
      if (name === '.') continue;
      if (name === '..') {
        at = at.slice(0, at.lastIndexOf('/'));
        continue;
      }
      const here = `${at}/${name}`;
      const step = await this.#step(here);
      if (step === null) return null;
      if (step.target !== undefined) {
        if (++hops > LINKS_MAX) return null;
        if (step.link) links.push(step.link);
        rest = [...step.target.split('/').filter(Boolean), ...rest];
        if (step.target.startsWith('/')) at = '';
      } else if (step.isDirectory) {
        at = here;
      } else {
        return rest.length > 0 ? null : { path: here, links, packed: step.packed, host: step.host };
      }
    }
  }

  /** Packs the file that a path leads to, with the links on the way; null when there is none. */
  async take(wanted: string, why: string): Promise<TreeEntry | null> {
    const found = await this.find(wanted);
    const isFile = found?.packed ? (found.packed.mode & S_IFMT) === S_IFREG : found?.host?.isFile();
    if (found === null || !isFile) return null;
    for (const link of found.links) this.put({ ...link, why: `link to ${found.path}` });
    if (found.packed !== undefined || found.host === undefined) return found.packed ?? null;
    this.#budget.take(found.host.size + 4096);
    const entry: TreeEntry = {
      path: found.path,
      mode: S_IFREG | (found.host.mode & 0o7777),
      data: await attempt(found.path, () => readFile(found.path)),
      why,
      host: found.path,
      hostSeconds: Math.floor(found.host.mtimeMs / 1000),
    };
    this.put(entry);
    return entry;
  }

  /** The bytes of a file found, packed or not; null for anything but a file that can be read. */
  async read(found: Found): Promise<Uint8Array | null> {
    if (found.packed) return (found.packed.mode & S_IFMT) === S_IFREG ? found.packed.data : null;
    if (!found.host?.isFile()) return null;
    return readFile(found.path).catch(() => null);
  }

  /** Where an entry wanted at `wanted` belongs, once the directory links above it are followed. */
  async place(wanted: string): Promise<string> {
    if (wanted === '/') return wanted;
    const above = path.posix.dirname(wanted);
    const found = await this.find(above);
    if (found === null) return path.posix.join(await this.place(above), path.posix.basename(wanted));
    const isDirectory = found.host?.isDirectory() ?? (found.packed?.mode ?? S_IFDIR) & S_IFDIR;
    if (!isDirectory) return wanted;
    for (const link of found.links) this.put({ ...link, why: `link to ${found.path}` });
    return path.posix.join(found.path, path.posix.basename(wanted));
  }

  #directory(at: string, links: TreeEntry[]): Found {
    const packed = this.entries.get(at) ?? { path: at, mode: S_IFDIR, data: new Uint8Array(0), why: '' };
    return { path: at, links, packed };
  }

  async #step(here: string): Promise<{
    target?: string;
    link?: TreeEntry;
    isDirectory?: boolean;
    packed?: TreeEntry;
    host?: Stats;
  } | null> {
    const packed = this.entries.get(here);
    if (packed !== undefined) {
      const type = packed.mode & S_IFMT;
      if (type === S_IFLNK) return { target: Buffer.from(packed.data).toString() };
      return { packed, isDirectory: type === S_IFDIR };
    }
    if (this.#directories.has(here)) return { isDirectory: true };
    const host = await lstat(here).catch(() => null);
    if (host === null) return null;
    if (!host.isSymbolicLink()) return { host, isDirectory: host.isDirectory() };
    const target = await readlink(here).catch(() => null);
    if (target === null) return null;
    const link = { path: here, mode: S_IFLNK | 0o777, data: Buffer.from(target), why: '' };
    return { target, link };
  }
}
