/** Packs a Linux program, its files and the guest kernel into one image. */
import { createHash } from 'node:crypto';
import path from 'node:path';
import { LockstepError } from '../errors.js';
import { DEFAULT_MTIME_SECONDS, writeArchive } from './archive.js';
import { isElf } from './elf.js';
import { completeTree, type FileEntry, S_IFLNK, S_IFMT, S_IFREG } from './file-entries.js';
import { gather } from './gather.js';
import type { TreeEntry } from './guest-tree.js';
import { findProgram, type PackedFile } from './host-files.js';
import { checkMemory, type ImageContent, tooLarge, writeImage } from './image-file.js';
import { kernelSegments } from './kernel.js';
import { type ManifestSites, PACKER_VERSION, type ProgramManifest } from './manifest.js';
import { applyPatches } from './patch.js';
import { LS_BOOT_MAGIC, LS_GPA_BOOT } from './ports.js';
import { redated } from './python-cache.js';
import { findSitesCached } from './site-cache.js';
import { describeSite, type SiteOptions } from './sites.js';

const PAGE = 4096;
const MIB = 1024 * 1024;
/** What of struct ls_boot the packer fills, and the seed; the rest is the monitor's. */
const BOOT_BYTES = 144;

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

type ImageSegment = ImageContent['segments'][number];

export interface PackedProgram {
  /** The image file. */
  image: Uint8Array;
  manifest: ProgramManifest;
}

/**
 * Packs a program. The same input gives the same bytes.
 * Throws ERR_LOCKSTEP_PROGRAM_NOT_FOUND, ERR_LOCKSTEP_PROGRAM_NOT_RUNNABLE (not ELF, not x86-64, a
 * library missing, ...), ERR_LOCKSTEP_SYSTEM (a file cannot be read), ERR_LOCKSTEP_IMAGE_TOO_LARGE,
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

  const found = await findProgram(name, options.searchPath);
  const { entries, missing } = await gather(found, { files, env, cwd, memoryMiB });
  const sites: ManifestSites = { replaced: [], left: [], watch: [], calls: [] };
  const choice = { patch: options.patch?.map(Number), leave: options.leave?.map(Number) };
  const mtimeSeconds = options.mtimeSeconds ?? DEFAULT_MTIME_SECONDS;
  for (const entry of redated(entries, mtimeSeconds)) {
    if (entry.asData || (entry.mode & S_IFMT) !== S_IFREG || !isElf(entry.data)) continue;
    entry.data = patchElf(entry, entry.path === found.realPath ? choice : {}, sites);
  }
  const tree = completeTree(entries);
  const why = new Map(entries.map((entry) => [entry.path, entry.why]));

  const manifest: ProgramManifest = {
    version: 1,
    kind: 'program',
    packer: PACKER_VERSION,
    program: found.path,
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
      why: why.get(entry.path) ?? 'directory',
      ...((entry.mode & S_IFMT) === S_IFLNK ? { target: Buffer.from(entry.data).toString() } : {}),
    })),
    missing,
    sites,
  };
  const { contents, rest } = layOut(kernel.end, tree, mtimeSeconds, manifest);
  // In the file contents come first, so that their blocks do not move when another thing grows.
  const segments = [contents, ...kernel.segments, ...rest];
  return { image: writeImage({ mode: 'program', entry: 0, memoryMiB, segments, manifest }), manifest };
}

/**
 * An ELF file's bytes with its sites replaced; adds what was found to the manifest's lists.
 * Code can be mapped from any program or library, executable or not. What is neither is data.
 */
function patchElf(entry: TreeEntry, choice: SiteOptions, sites: ManifestSites): Uint8Array {
  const { path: file, data } = entry;
  const found = findSitesCached(data, file, choice);
  if (found === null) return data;
  const hex = (address: number): string => `0x${address.toString(16)}`;
  for (const site of found.replaced) {
    sites.replaced.push({ file, address: hex(site.address), instruction: describeSite(site) });
  }
  for (const { address, instruction, reason } of found.left)
    sites.left.push({ file, address: hex(address), instruction, reason });
  for (const { address, instruction } of found.watch)
    sites.watch.push({ file, address: hex(address), instruction });
  if (found.calls.length > 0) sites.calls.push({ file, count: found.calls.length });
  return applyPatches(data, found);
}

/** Archive, strings and boot block; what lies where is told to the kernel in the boot block (guest/abi.h). */
function layOut(
  kernelEnd: number,
  tree: readonly FileEntry[],
  mtimeSeconds: number,
  manifest: ProgramManifest,
): { contents: ImageSegment; rest: ImageSegment[] } {
  const env = Object.entries(manifest.env).map(([key, value]) => {
    if (key === '' || key.includes('=')) throw invalid(`'${key}' is no name of an environment variable`);
    return `${key}=${value}`;
  });
  const list = [...manifest.argv, ...env, manifest.cwd, manifest.program];
  const bad = list.find((text) => text.includes('\0'));
  if (bad !== undefined) throw invalid(`${JSON.stringify(bad)} contains a NUL`);
  const strings = Buffer.from(list.map((text) => `${text}\0`).join(''));

  // Strings before contents, so that all a start reads in any case lies together.
  const stringsGpa = roundUp(kernelEnd, 2 * MIB);
  const archiveGpa = roundUp(stringsGpa + strings.length, PAGE);
  const { index, contents, contentsGpa } = writeArchive(tree, archiveGpa, mtimeSeconds);
  const freeGpa = roundUp(contentsGpa + contents.length, PAGE);
  // A program needs memory of its own, too: its segments, its stack.
  if (freeGpa + 2 * MIB > manifest.memoryMiB * MIB) throw tooLarge(freeGpa + 2 * MIB, manifest.memoryMiB);

  const boot = Buffer.alloc(BOOT_BYTES);
  boot.writeBigUInt64LE(LS_BOOT_MAGIC, 0);
  boot.writeBigUInt64LE(BigInt(archiveGpa), 16);
  boot.writeBigUInt64LE(BigInt(index.length), 24);
  boot.writeBigUInt64LE(BigInt(freeGpa), 32);
  boot.writeBigUInt64LE(BigInt(stringsGpa), 40);
  boot.writeUInt32LE(manifest.argv.length, 48);
  boot.writeUInt32LE(env.length, 52);
  return {
    contents: { gpa: contentsGpa, bytes: contents },
    rest: [
      { gpa: LS_GPA_BOOT, bytes: boot },
      { gpa: stringsGpa, bytes: strings },
      { gpa: archiveGpa, bytes: index },
    ],
  };
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
