/**
 * Finds shared libraries where ld.so (glibc) would find them in the guest: DT_RPATH of the file
 * and its loaders, LD_LIBRARY_PATH, DT_RUNPATH, ld.so.cache, default directories.
 */
import path from 'node:path';
import type { ElfDynamic } from './elf-dynamic.js';
import { parseMappable } from './elf-dynamic.js';
import type { Found, GuestTree } from './guest-tree.js';
import type { CachedLibrary } from './ld-cache.js';

/**
 * The CPU models a machine may show, highest first; '' is any. Which one it will be is the
 * machine's choice, not the image's, so the variants of all of them are packed and ld.so picks.
 */
const LEVELS = ['x86-64-v3', 'x86-64-v2', ''] as const;

/** A file that asks for libraries, and the one that asked for it. */
export interface Requester {
  path: string;
  dynamic: ElfDynamic;
  loader: Requester | null;
}

export interface FoundLibrary {
  found: Found;
  /** The path by which ld.so opens it. */
  path: string;
  /** Found by the cache, in a directory that is no default one: the guest needs a cache as well. */
  byCache: boolean;
}

export interface SearchOptions {
  tree: GuestTree;
  /** LD_LIBRARY_PATH of the guest. */
  libraryPath: readonly string[];
  cache: ReadonlyMap<string, readonly CachedLibrary[]>;
  /** What is built into the dynamic linker. */
  defaults: readonly string[];
}

/** The default directories that a glibc ld.so was built with: it holds them as strings. */
export function defaultDirectories(linker: Uint8Array): string[] {
  const debian = '/lib/x86_64-linux-gnu';
  const bytes = Buffer.from(linker.buffer, linker.byteOffset, linker.byteLength);
  if (bytes.includes(`${debian}/\0`)) return [debian, `/usr${debian}`, '/lib', '/usr/lib'];
  return ['/lib64', '/usr/lib64'];
}

/** All files that one of the CPU models would load under this name; empty: it is missing. */
export async function findLibrary(
  name: string,
  by: Requester,
  options: SearchOptions,
): Promise<FoundLibrary[]> {
  if (name.includes('/')) {
    const file = await accept(expand(name, by.path), options.tree);
    return file ? [{ ...file, byCache: false }] : [];
  }
  const results = new Map<string, FoundLibrary>();
  for (const level of LEVELS) {
    const result = await findAtLevel(name, by, level, options);
    if (result !== null) results.set(result.path, result);
  }
  return [...results.values()];
}

async function findAtLevel(
  name: string,
  by: Requester,
  level: (typeof LEVELS)[number],
  { tree, libraryPath, cache, defaults }: SearchOptions,
): Promise<FoundLibrary | null> {
  const levels = level === '' ? [] : LEVELS.slice(LEVELS.indexOf(level), -1);
  const search = async (directories: readonly string[]): Promise<FoundLibrary | null> => {
    for (const directory of directories) {
      for (const below of [...levels.map((one) => `/glibc-hwcaps/${one}`), '']) {
        const file = await accept(path.posix.join(directory + below, name), tree);
        if (file) return { ...file, byCache: false };
      }
    }
    return null;
  };
  const direct = (await search(rpaths(by))) ?? (await search(libraryPath)) ?? (await search(runpaths(by)));
  if (direct !== null) return direct;
  if (by.dynamic.noDefaultDirectories) return null;
  for (const one of cache.get(name) ?? []) {
    if (one.level !== '' && !levels.some((known) => known === one.level)) continue;
    const file = await accept(one.path, tree);
    if (!file) continue;
    // From a default directory ld.so takes it without a cache, and the best variant of it.
    const isDefault = defaults.includes(path.posix.dirname(one.path).replace(/\/glibc-hwcaps\/.*/, ''));
    return { ...file, byCache: !isDefault };
  }
  return search(defaults);
}

/** A RUNPATH in a file makes every RPATH above it count for nothing. */
function rpaths(by: Requester): string[] {
  if (by.dynamic.runpath.length > 0) return [];
  const found: string[] = [];
  for (let at: Requester | null = by; at !== null; at = at.loader) {
    const { path: file, dynamic } = at;
    if (dynamic.runpath.length === 0) found.push(...dynamic.rpath.map((one) => expand(one, file)));
  }
  return found;
}

function runpaths(by: Requester): string[] {
  return by.dynamic.runpath.map((one) => expand(one, by.path));
}

function expand(text: string, file: string): string {
  return text
    .replace(/\$(ORIGIN\b|\{ORIGIN\})/g, path.posix.dirname(file))
    .replace(/\$(LIB\b|\{LIB\})/g, 'lib/x86_64-linux-gnu')
    .replace(/\$(PLATFORM\b|\{PLATFORM\})/g, 'x86_64');
}

/** ld.so passes over files for other machines and goes on searching. */
async function accept(file: string, tree: GuestTree): Promise<{ found: Found; path: string } | null> {
  const found = await tree.find(file);
  const bytes = found && (await tree.read(found));
  return bytes && parseMappable(bytes, file) ? { found, path: file } : null;
}
