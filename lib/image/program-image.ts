/** Packs a Linux program, its files and the guest kernel into one image. */
import { createHash } from 'node:crypto';
import path from 'node:path';
import { LockstepError } from '../errors.js';
import { type CpioEntry, completeTree, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, writeCpio } from './cpio.js';
import { isElf, parseElf, requireStaticProgram } from './elf.js';
import { Budget, collectFile, findProgram, type PackedFile } from './host-files.js';
import { checkMemory, tooLarge, writeImage } from './image-file.js';
import { kernelSegments } from './kernel.js';
import { type ManifestSites, PACKER_VERSION, type ProgramManifest } from './manifest.js';
import { applyPatches } from './patch.js';
import { LS_BOOT_MAGIC, LS_GPA_BOOT } from './ports.js';
import { findSitesCached } from './site-cache.js';
import { describeSite, type SiteOptions } from './sites.js';

const PAGE = 4096;
const MIB = 1024 * 1024;
/** What of struct ls_boot the packer fills, and the seed; the rest is the monitor's. */
const BOOT_BYTES = 112;

/** Set in every guest unless `env` says otherwise. LD_BIND_NOW: lazy binding executes XSAVE. */
export const DEFAULT_ENV: Readonly<Record<string, string>> = {
  PATH: '/usr/local/bin:/usr/bin:/bin',
  HOME: '/root',
  LANG: 'C.UTF-8',
  LD_BIND_NOW: '1',
};

export interface ProgramOptions {
  /** The program (a path, or a name on PATH) and its arguments. */
  argv: readonly string[];
  /** Added to the default environment, which is small and fixed: nothing of the host's enters. */
  env?: Readonly<Record<string, string>>;
  /** Sets TERM=linux. Default false. */
  terminal?: boolean;
  /** Files and directories the guest sees beside the program. */
  files?: readonly PackedFile[];
  /** The program's working directory, absolute. Default: `/`. */
  cwd?: string;
  /** The guest kernel, an ELF file. */
  kernel: Uint8Array;
  /** RAM, a multiple of 2. Default: 256. */
  memoryMiB?: number;
  /** Modification time of every file, in seconds since 1970. Default: 2020-01-01. */
  mtimeSeconds?: number;
  /** Addresses in the program to replace even where the packer finds no way there. */
  patch?: readonly (bigint | number)[];
  /** Addresses in the program to leave as they are. */
  leave?: readonly (bigint | number)[];
  /** Where to look for the program, separated by colons. Default: PATH of this process. */
  searchPath?: string;
}

export interface PackedProgram {
  /** The image file. */
  image: Uint8Array;
  manifest: ProgramManifest;
}

/**
 * Packs a program. The same input gives the same bytes.
 * Throws ERR_LOCKSTEP_PROGRAM_NOT_FOUND, ERR_LOCKSTEP_PROGRAM_NOT_RUNNABLE (not ELF, not x86-64,
 * dynamic, ...), ERR_LOCKSTEP_SYSTEM (a file cannot be read), ERR_LOCKSTEP_IMAGE_TOO_LARGE,
 * ERR_LOCKSTEP_INVALID_ARGUMENT and ERR_LOCKSTEP_NOT_BUILT (a kernel that is none).
 */
export async function packProgram(options: ProgramOptions): Promise<PackedProgram> {
  const { argv, files = [] } = options;
  const name = argv[0];
  if (name === undefined) throw invalid('argv is empty', 'Give the program and its arguments.');
  const memoryMiB = checkMemory(options.memoryMiB);
  const cwd = checkCwd(options.cwd ?? '/');
  const env = { ...DEFAULT_ENV, ...(options.terminal ? { TERM: 'linux' } : {}), ...options.env };
  const kernel = kernelSegments(options.kernel);

  const sites: ManifestSites = { replaced: [], left: [], watch: [] };
  const program = await findProgram(name, options.searchPath);
  const elf = parseElf(program.bytes, program.realPath);
  requireStaticProgram(elf);
  const choice = { patch: options.patch?.map(Number), leave: options.leave?.map(Number) };
  const patched = patchProgram(program.realPath, program.bytes, choice, sites);

  const entries: CpioEntry[] = [{ path: program.realPath, mode: program.mode, data: patched }];
  if (program.path !== program.realPath) {
    entries.push({ path: program.path, mode: S_IFLNK | 0o777, data: Buffer.from(program.realPath) });
  }
  const budget = new Budget(memoryMiB);
  for (const file of files) entries.push(...(await packFile(file, cwd, budget, entries, sites)));
  if (!entries.some((entry) => entry.path === cwd))
    entries.push({ path: cwd, mode: S_IFDIR | 0o755, data: new Uint8Array(0) });
  const tree = completeTree(entries);

  const manifest: ProgramManifest = {
    version: 1,
    kind: 'program',
    packer: PACKER_VERSION,
    program: program.realPath,
    argv: [...argv],
    env,
    cwd,
    memoryMiB,
    kernelSha256: sha256(options.kernel),
    files: tree.map((entry) => ({
      path: entry.path,
      bytes: entry.data.length,
      mode: entry.mode.toString(8),
      sha256: sha256(entry.data),
    })),
    sites,
  };
  const archive = writeCpio(tree, { mtimeSeconds: options.mtimeSeconds });
  const loaded = layOut(kernel.end, archive, manifest);
  const segments = [...kernel.segments, ...loaded];
  return { image: writeImage({ mode: 'program', entry: 0, memoryMiB, segments, manifest }), manifest };
}

/** One of `files`, with the programs in it patched; the program itself, named again, is packed once. */
async function packFile(
  file: PackedFile,
  cwd: string,
  budget: Budget,
  present: CpioEntry[],
  sites: ManifestSites,
): Promise<CpioEntry[]> {
  const collected = await collectFile(file, cwd, budget);
  // The program, and the link it was found by, are there already.
  const [program, link] = present;
  const found = link !== undefined && (link.mode & S_IFMT) === S_IFLNK ? link : undefined;
  const entries = collected.filter((entry) => entry.path !== program?.path && entry.path !== found?.path);
  for (const entry of entries) {
    const isFile = (entry.mode & S_IFMT) === S_IFREG;
    if (isFile && (file.patch ?? isStaticProgram(entry))) {
      entry.data = patchProgram(entry.path, entry.data, {}, sites);
    }
  }
  return entries;
}

/** Whether the guest could run it; what cannot run is data, whatever it looks like. */
function isStaticProgram(entry: CpioEntry): boolean {
  if ((entry.mode & 0o111) === 0 || !isElf(entry.data)) return false;
  try {
    requireStaticProgram(parseElf(entry.data, entry.path));
    return true;
  } catch (error) {
    if (error instanceof LockstepError) return false;
    throw error;
  }
}

/** A program's bytes with its sites replaced; adds what was found to the manifest's lists. */
function patchProgram(
  file: string,
  bytes: Uint8Array,
  choice: SiteOptions,
  sites: ManifestSites,
): Uint8Array {
  const found = findSitesCached(parseElf(bytes, file), choice);
  const hex = (address: number): string => `0x${address.toString(16)}`;
  for (const site of found.replaced) {
    sites.replaced.push({ file, address: hex(site.address), instruction: describeSite(site) });
  }
  for (const { address, instruction, reason } of found.left)
    sites.left.push({ file, address: hex(address), instruction, reason });
  for (const { address, instruction } of found.watch)
    sites.watch.push({ file, address: hex(address), instruction });
  return applyPatches(bytes, found.replaced);
}

/** Archive, strings and boot block; what lies where is told to the kernel in the boot block (guest/abi.h). */
function layOut(
  kernelEnd: number,
  archive: Uint8Array,
  manifest: ProgramManifest,
): { gpa: number; bytes: Uint8Array }[] {
  const env = Object.entries(manifest.env).map(([key, value]) => {
    if (key === '' || key.includes('=')) throw invalid(`'${key}' is no name of an environment variable`);
    return `${key}=${value}`;
  });
  const list = [...manifest.argv, ...env, manifest.cwd, manifest.program];
  const bad = list.find((text) => text.includes('\0'));
  if (bad !== undefined) throw invalid(`${JSON.stringify(bad)} contains a NUL`);
  const strings = Buffer.from(list.map((text) => `${text}\0`).join(''));

  const archiveGpa = roundUp(kernelEnd, 2 * MIB);
  const stringsGpa = roundUp(archiveGpa + archive.length, PAGE);
  const freeGpa = roundUp(stringsGpa + strings.length, PAGE);
  // A program needs memory of its own, too: its segments, its stack.
  if (freeGpa + 2 * MIB > manifest.memoryMiB * MIB) throw tooLarge(freeGpa + 2 * MIB, manifest.memoryMiB);

  const boot = Buffer.alloc(BOOT_BYTES);
  boot.writeBigUInt64LE(LS_BOOT_MAGIC, 0);
  boot.writeBigUInt64LE(BigInt(archiveGpa), 16);
  boot.writeBigUInt64LE(BigInt(archive.length), 24);
  boot.writeBigUInt64LE(BigInt(freeGpa), 32);
  boot.writeBigUInt64LE(BigInt(stringsGpa), 40);
  boot.writeUInt32LE(manifest.argv.length, 48);
  boot.writeUInt32LE(env.length, 52);
  return [
    { gpa: LS_GPA_BOOT, bytes: boot },
    { gpa: archiveGpa, bytes: archive },
    { gpa: stringsGpa, bytes: strings },
  ];
}

function checkCwd(cwd: string): string {
  if (!cwd.startsWith('/')) throw invalid(`the working directory '${cwd}' is not absolute`);
  return path.posix.resolve(cwd);
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}

function invalid(what: string, hint?: string): LockstepError {
  return new LockstepError('ERR_LOCKSTEP_INVALID_ARGUMENT', `The program cannot be packed: ${what}.`, {
    hint,
  });
}
