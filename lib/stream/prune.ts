/** Removes from a published directory what no manifest in it names any more. */
import { readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { LockstepError } from '../errors.js';
import { decodePublished, isPublished, packPath } from './published.js';

export interface PruneOptions {
  /**
   * What is younger is kept, in hours: a client that began with the version before still fetches it, and another
   * `publish` may be about to name it. Default 24.
   */
  olderThanHours?: number;
}

export interface PruneResult {
  files: number;
  bytes: number;
}

/**
 * Removes packs that belong to no version published in this directory, and what a `publish` that was killed left
 * behind. Throws ERR_LOCKSTEP_STREAM_DAMAGED, and removes nothing, when a manifest cannot be read: whatever it names
 * would be lost.
 */
export async function prune(directory: string, options: PruneOptions = {}): Promise<PruneResult> {
  const { olderThanHours = 24 } = options;
  const named = await namedPacks(directory);
  const before = Date.now() - olderThanHours * 3_600_000;
  const result: PruneResult = { files: 0, bytes: 0 };
  for (const path of await leftovers(directory, named)) {
    const found = await stat(path).catch(() => undefined);
    if (!found || found.mtimeMs > before) continue;
    await rm(path, { force: true });
    result.files++;
    result.bytes += found.size;
  }
  return result;
}

async function namedPacks(directory: string): Promise<Set<string>> {
  const named = new Set<string>();
  for (const entry of await entriesOf(directory)) {
    if (!entry.isFile()) continue;
    const file = await readFile(join(directory, entry.name));
    if (!isPublished(file)) continue;
    for (const pack of (await decodePublished(file, entry.name)).packs) named.add(packPath(pack));
  }
  return named;
}

/** Only what has a name that `publish` gives: the directory may hold other things. */
async function leftovers(directory: string, named: Set<string>): Promise<string[]> {
  const found: string[] = [];
  for (const { name } of await entriesOf(directory)) if (/\.\d+\.part$/.test(name)) found.push(name);
  for (const { name } of await entriesOf(join(directory, 'packs'))) {
    const path = `packs/${name}`;
    if (/^[0-9a-f]{32}\.pack(\.\d+\.part)?$/.test(name) && !named.has(path)) found.push(path);
  }
  return found.map((path) => join(directory, path));
}

async function entriesOf(directory: string) {
  return readdir(directory, { withFileTypes: true }).catch((cause: NodeJS.ErrnoException) => {
    throw new LockstepError('ERR_LOCKSTEP_SYSTEM', `cannot read ${directory}: ${cause.message}`, {
      cause,
      hint: 'It is the directory that `lockstep publish` was given.',
    });
  });
}
