/**
 * Gathers all that a program needs into a GuestTree: the program, its interpreters, the dynamic
 * linker, libraries, what was asked for by --file, companions, and /etc. Every entry says why.
 */
import path from 'node:path';
import { LockstepError } from '../errors.js';
import { type Companion, companionsOf } from './companions.js';
import { type ElfFile, isElf, parseElf } from './elf.js';
import { parseMappable, readDynamic, requireProgram } from './elf-dynamic.js';
import { type FileEntry, S_IFDIR, S_IFMT, S_IFREG } from './file-entries.js';
import { GuestTree, type TreeEntry } from './guest-tree.js';
import { Budget, collectFile, type FoundProgram, type PackedFile } from './host-files.js';
import { readLdCache, writeLdCache } from './ld-cache.js';
import { defaultDirectories, findLibrary, type Requester, type SearchOptions } from './library-search.js';
import type { ManifestMissing } from './manifest.js';
import { interpreterOf } from './script.js';
import { systemFiles } from './system-files.js';

const SCRIPTS_MAX = 4;
const NONE = new Uint8Array(0);

export interface GatherOptions {
  files: readonly PackedFile[];
  env: Readonly<Record<string, string>>;
  cwd: string;
  memoryMiB: number;
}

export interface Gathered {
  entries: TreeEntry[];
  /** Libraries that files beside the program ask for and nobody has. */
  missing: ManifestMissing[];
}

/** Throws ERR_LOCKSTEP_PROGRAM_NOT_RUNNABLE where the program cannot be run, a library missing included. */
export async function gather(program: FoundProgram, options: GatherOptions): Promise<Gathered> {
  const gatherer = new Gatherer(options);
  await gatherer.addProgram(program);
  for (const file of options.files) await gatherer.addUserFile(file);
  await gatherer.addClosure(program);
  return gatherer.finish();
}

class Gatherer {
  readonly #options: GatherOptions;
  readonly #budget: Budget;
  readonly #tree: GuestTree;
  readonly #missing: ManifestMissing[] = [];
  /** Libraries that the guest's ld.so finds only by a cache. */
  readonly #cached = new Map<string, string>();
  #search: SearchOptions | null = null;
  /** Files whose libraries and companions are packed already. */
  readonly #done = new Set<TreeEntry>();

  constructor(options: GatherOptions) {
    this.#options = options;
    this.#budget = new Budget(options.memoryMiB);
    this.#tree = new GuestTree(this.#budget);
  }

  async addProgram({ path: found, realPath }: FoundProgram): Promise<void> {
    // The file first, so that it is the host's whatever --file says.
    await this.#tree.take(realPath, 'program');
    await this.#tree.take(found, 'program');
  }

  async addUserFile(file: PackedFile): Promise<void> {
    const { cwd } = this.#options;
    for (const entry of await this.#collect(file, cwd, '--file')) {
      const other = this.#tree.entries.get(entry.path);
      if (other?.why === 'program' || (other?.mode === entry.mode && (entry.mode & S_IFMT) === S_IFDIR))
        continue;
      if (other?.why === '--file') throw twice(entry.path);
      this.#tree.put({ ...entry, asData: file.patch === false });
    }
  }

  /** All that the program, and then the rest, needs. */
  async addClosure(program: FoundProgram): Promise<void> {
    await this.#runnable(program.path, 'program', 0);
    // What is packed may call for more, until nothing new comes.
    for (let size = -1; size !== this.#tree.entries.size; ) {
      size = this.#tree.entries.size;
      for (const entry of [...this.#tree.entries.values()]) await this.#follow(entry);
    }
  }

  async finish(): Promise<Gathered> {
    const automatic: FileEntry[] = systemFiles();
    if (this.#cached.size > 0)
      automatic.push({ path: '/etc/ld.so.cache', mode: S_IFREG | 0o644, data: writeLdCache(this.#cached) });
    automatic.push({ path: this.#options.cwd, mode: S_IFDIR | 0o755, data: NONE });
    for (const entry of automatic) {
      const place = await this.#tree.place(entry.path);
      if (!this.#tree.entries.has(place))
        this.#tree.put({ ...entry, path: place, why: 'every guest has it' });
    }
    return { entries: [...this.#tree.entries.values()], missing: this.#missing };
  }

  /** Something to execute: a script with its interpreter, or an ELF program with its libraries. */
  async #runnable(wanted: string, why: string, depth: number): Promise<void> {
    const entry = await this.#tree.take(wanted, why);
    if (entry === null)
      throw notRunnable(`${wanted}, the ${why}, is not there`, 'Install it, or bring it with --file.');
    const script = interpreterOf(entry.data);
    if (script !== null) {
      if (depth === SCRIPTS_MAX) throw notRunnable(`${wanted} is a script whose interpreters are scripts`);
      await this.#runnable(script.interpreter, `interpreter of ${entry.path}`, depth + 1);
      const { byEnv } = script;
      if (byEnv !== null)
        await this.#runnable(await this.#onPath(byEnv, entry), `interpreter of ${entry.path}`, depth + 1);
      return;
    }
    const elf = parseElf(entry.data, entry.path);
    requireProgram(elf);
    await this.#elf(entry, elf, true);
  }

  async #onPath(name: string, script: TreeEntry): Promise<string> {
    if (name.includes('/')) return name;
    for (const directory of (this.#options.env.PATH ?? '').split(':').filter(Boolean)) {
      const candidate = path.posix.join(directory, name);
      const found = await this.#tree.find(candidate);
      const mode = found?.packed?.mode ?? found?.host?.mode ?? 0;
      if ((mode & S_IFMT) === S_IFREG && (mode & 0o111) !== 0) return candidate;
    }
    throw notRunnable(
      `${script.path} asks env for '${name}', which is nowhere on the guest's PATH`,
      `Install it, or set the guest's: --env PATH=... (now ${this.#options.env.PATH}).`,
    );
  }

  /** Libraries and companions of an entry that is in the tree for whatever reason. */
  async #follow(entry: TreeEntry): Promise<void> {
    if (entry.asData || (entry.mode & S_IFMT) !== S_IFREG) return;
    if (!this.#done.has(entry)) {
      const elf = isElf(entry.data) ? parseMappable(entry.data, entry.path) : null;
      if (elf === null) this.#done.add(entry);
      else await this.#elf(entry, elf, false);
    }
  }

  async #elf(entry: TreeEntry, elf: ElfFile, strict: boolean): Promise<void> {
    if (this.#done.has(entry)) return;
    this.#done.add(entry);
    for (const rule of companionsOf(entry.path)) await this.#companion(rule, entry.path);
    const isProgram = elf.interpreter !== null && (entry.mode & 0o111) !== 0;
    if (isProgram && elf.interpreter !== null) {
      const linker = await this.#tree.take(elf.interpreter, `dynamic linker of ${entry.path}`);
      if (linker === null) this.#lacks(elf.interpreter, entry.path, strict);
      else {
        this.#done.add(linker);
        await this.#useLinker(linker);
      }
    }
    await this.#libraries({ path: entry.path, dynamic: readDynamic(elf), loader: null }, isProgram, strict);
  }

  /** In the order of ld.so, breadth first: what has been loaded under a name serves all who need it. */
  async #libraries(root: Requester, isProgram: boolean, strict: boolean): Promise<void> {
    const preload = isProgram ? (this.#options.env.LD_PRELOAD ?? '').split(/[ :]+/).filter(Boolean) : [];
    const loaded = new Set<string>();
    const queue: Requester[] = [root];
    for (let by = queue.shift(); by !== undefined; by = queue.shift()) {
      for (const name of [...(by === root ? preload : []), ...by.dynamic.needed]) {
        if (loaded.has(name)) continue;
        loaded.add(name);
        const search = await this.#searchOptions();
        const libraries = await findLibrary(name, by, search);
        if (libraries.length === 0) this.#lacks(name, by.path, strict);
        for (const library of libraries) {
          const entry = await this.#tree.take(library.path, `needed by ${by.path}`);
          const elf = entry && parseMappable(entry.data, entry.path);
          if (!entry || !elf) continue;
          if (library.byCache && !library.path.includes('/glibc-hwcaps/'))
            this.#cached.set(name, library.path);
          const dynamic = readDynamic(elf);
          if (dynamic.soname !== null) loaded.add(dynamic.soname);
          queue.push({ path: library.path, dynamic, loader: by });
          if (!this.#done.has(entry)) {
            this.#done.add(entry);
            for (const rule of companionsOf(entry.path)) await this.#companion(rule, entry.path);
          }
        }
      }
    }
  }

  async #companion(rule: Companion, of: string): Promise<void> {
    for (const wanted of rule.take ?? []) {
      if ((await this.#tree.find(wanted)) === null) continue;
      const file = await this.#tree.take(wanted, `companion of ${of}`);
      if (file !== null) continue;
      const entries = await this.#collect({ host: wanted }, '/', `companion of ${of}`, rule.except);
      for (const entry of entries) if (!this.#tree.entries.has(entry.path)) this.#tree.put(entry);
    }
    for (const directory of rule.make ?? []) {
      const place = await this.#tree.place(directory);
      if (!this.#tree.entries.has(place))
        this.#tree.put({ path: place, mode: S_IFDIR | 0o755, data: NONE, why: `companion of ${of}` });
    }
  }

  /** A file or directory of the host, at its place in the guest. */
  async #collect(file: PackedFile, cwd: string, why: string, except?: RegExp): Promise<TreeEntry[]> {
    const collected = await collectFile(file, cwd, this.#budget, except);
    const top = collected[0]?.path ?? '/';
    const place = await this.#tree.place(top);
    return collected.map((entry) => ({ ...entry, path: place + entry.path.slice(top.length), why }));
  }

  #lacks(library: string, neededBy: string, strict: boolean): void {
    if (strict) {
      throw notRunnable(
        `${library} is not found, which ${neededBy} needs`,
        'Install the package that has it, set LD_LIBRARY_PATH by --env, or bring it with --file HOST:GUEST.',
      );
    }
    if (!this.#missing.some((one) => one.library === library && one.neededBy === neededBy))
      this.#missing.push({ library, neededBy });
  }

  async #searchOptions(): Promise<SearchOptions> {
    if (this.#search !== null) return this.#search;
    const found = await this.#tree.find('/etc/ld.so.cache');
    const bytes = found && (await this.#tree.read(found));
    this.#search = {
      tree: this.#tree,
      libraryPath: (this.#options.env.LD_LIBRARY_PATH ?? '').split(/[:;]/).filter(Boolean),
      cache: bytes ? readLdCache(bytes) : new Map(),
      defaults: defaultDirectories(NONE),
    };
    return this.#search;
  }

  async #useLinker(linker: TreeEntry): Promise<void> {
    this.#search = { ...(await this.#searchOptions()), defaults: defaultDirectories(linker.data) };
  }
}

function twice(file: string): LockstepError {
  return new LockstepError('ERR_LOCKSTEP_INVALID_ARGUMENT', `${file} is packed twice.`, {
    hint: 'Give one of the files another path in the guest: --file HOST:GUEST.',
  });
}

function notRunnable(what: string, hint?: string): LockstepError {
  return new LockstepError('ERR_LOCKSTEP_PROGRAM_NOT_RUNNABLE', `${what}.`, { hint });
}
