/** Brings a program and files of the host into archive entries. Nothing of the host but contents and modes enters. */
import type { Stats } from 'node:fs';
import { access, constants, lstat, readdir, readFile, readlink, realpath, stat } from 'node:fs/promises';
import path from 'node:path';
import { LockstepError } from '../errors.js';
import { type FileEntry, S_IFDIR, S_IFLNK, S_IFREG } from './file-entries.js';
import { tooLarge } from './image-file.js';

/** A file or directory to pack. */
export interface PackedFile {
  /** Path on the host, relative to the process's directory. */
  host: string;
  /** Path in the guest, relative to its working directory. Default: the absolute host path. */
  guest?: string;
  /**
   * False: keep all bytes as they are. Otherwise nondeterministic instructions are replaced in
   * every x86-64 program and shared library among them, for the guest may map its code.
   */
  patch?: boolean;
}

/** What was read from the host, with where and how old it is: neither enters the image. */
export interface HostEntry extends FileEntry {
  host?: string;
  hostSeconds?: number;
}

export interface FoundProgram {
  /** As found, absolute: it may be a link. */
  path: string;
  /** The file itself: its path on the host and in the guest. */
  realPath: string;
}

/** The bytes that may still be packed, so that a mistyped directory does not fill the host's memory. */
export class Budget {
  #left: number;
  readonly #memoryMiB: number;

  constructor(memoryMiB: number) {
    this.#memoryMiB = memoryMiB;
    this.#left = memoryMiB * 1024 * 1024;
  }

  /** Throws ERR_LOCKSTEP_IMAGE_TOO_LARGE once more was taken than the machine has memory. */
  take(bytes: number): void {
    this.#left -= bytes;
    if (this.#left < 0) throw tooLarge(this.#memoryMiB * 1024 * 1024 - this.#left, this.#memoryMiB);
  }
}

/**
 * Finds a program as a shell does: by `searchPath` (default: PATH) unless its name has a slash.
 * Throws ERR_LOCKSTEP_PROGRAM_NOT_FOUND, and ERR_LOCKSTEP_PROGRAM_NOT_RUNNABLE for a directory
 * or a file that this user may not read or that has no execute permission.
 */
export async function findProgram(name: string, searchPath = process.env.PATH ?? ''): Promise<FoundProgram> {
  const candidates = name.includes('/')
    ? [path.resolve(name)]
    : name === ''
      ? []
      : searchPath.split(':').map((directory) => path.resolve(directory, name));
  let refused: string | null = null;
  for (const candidate of candidates) {
    const status = await stat(candidate).catch(() => null);
    if (status === null) continue;
    if (!status.isFile()) refused ??= `${candidate} is not a file`;
    else if ((status.mode & 0o111) === 0) refused ??= `${candidate} has no execute permission`;
    else return readable(candidate);
  }
  if (refused !== null) {
    throw new LockstepError('ERR_LOCKSTEP_PROGRAM_NOT_RUNNABLE', `${refused}.`, {
      hint: 'Name an executable file.',
    });
  }
  const where = name.includes('/') ? `There is no ${name}` : `There is no program '${name}' on PATH`;
  throw new LockstepError('ERR_LOCKSTEP_PROGRAM_NOT_FOUND', `${where}.`, {
    hint: 'Install it, or give its path.',
  });
}

async function readable(found: string): Promise<FoundProgram> {
  try {
    const realPath = await realpath(found);
    await access(realPath, constants.R_OK);
    return { path: found, realPath };
  } catch (cause) {
    throw new LockstepError(
      'ERR_LOCKSTEP_PROGRAM_NOT_RUNNABLE',
      `${found} cannot be read: ${reason(cause)}.`,
      {
        cause,
        errno: errnoOf(cause),
        hint: 'Packing copies the program, so this user needs read permission.',
      },
    );
  }
}

/**
 * The archive entries of a file, or of a directory with all it holds. A link named by the user
 * is followed; links inside a directory are packed as links.
 * Throws ERR_LOCKSTEP_SYSTEM (unreadable), ERR_LOCKSTEP_INVALID_ARGUMENT (a device, socket or pipe).
 */
export async function collectFile(
  file: PackedFile,
  cwd: string,
  budget: Budget,
  except?: RegExp,
): Promise<HostEntry[]> {
  const host = path.resolve(file.host);
  let guest = file.guest === undefined ? host : path.posix.resolve(cwd, file.guest);
  if (file.guest?.endsWith('/')) guest = path.posix.join(guest, path.basename(host));
  const status = await attempt(host, () => stat(host));
  const entries: HostEntry[] = [];
  await collect(host, guest, status, budget, entries, except);
  return entries;
}

async function collect(
  host: string,
  guest: string,
  status: Stats,
  budget: Budget,
  entries: HostEntry[],
  except?: RegExp,
): Promise<void> {
  if (except?.test(host)) return;
  // What one entry needs beside its contents: header and name.
  budget.take(128 + guest.length);
  const permissions = status.mode & 0o7777;
  if (status.isSymbolicLink()) {
    const target = await attempt(host, () => readlink(host));
    entries.push({ path: guest, mode: S_IFLNK | 0o777, data: Buffer.from(target) });
  } else if (status.isFile()) {
    budget.take(status.size);
    entries.push({
      path: guest,
      mode: S_IFREG | permissions,
      data: await attempt(host, () => readFile(host)),
      host,
      hostSeconds: Math.floor(status.mtimeMs / 1000),
    });
  } else if (status.isDirectory()) {
    entries.push({ path: guest, mode: S_IFDIR | permissions, data: new Uint8Array(0) });
    const names = await attempt(host, () => readdir(host));
    for (const name of names.sort()) {
      const child = path.join(host, name);
      await collect(
        child,
        path.posix.join(guest, name),
        await attempt(child, () => lstat(child)),
        budget,
        entries,
        except,
      );
    }
  } else {
    throw new LockstepError(
      'ERR_LOCKSTEP_INVALID_ARGUMENT',
      `${host} is a device, socket or pipe and cannot be packed.`,
      {
        hint: 'Only files, directories and symbolic links go into an image.',
      },
    );
  }
}

/** Runs `call`; what it throws says which file cannot be packed. */
export async function attempt<T>(host: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (cause) {
    throw new LockstepError('ERR_LOCKSTEP_SYSTEM', `${host} cannot be packed: ${reason(cause)}.`, {
      cause,
      errno: errnoOf(cause),
      syscall: (cause as NodeJS.ErrnoException).syscall,
      hint: 'Check the path and its permissions.',
    });
  }
}

/** Node gives the negative number; people and LockstepError use the positive one. */
function errnoOf(cause: unknown): number | undefined {
  const { errno } = cause as NodeJS.ErrnoException;
  return errno === undefined ? undefined : Math.abs(errno);
}

function reason(cause: unknown): string {
  const { code, message } = cause as NodeJS.ErrnoException;
  const known: Record<string, string> = {
    ENOENT: 'it does not exist',
    EACCES: 'permission denied',
    ENOTDIR: 'part of the path is no directory',
  };
  return known[code ?? ''] ?? message;
}
