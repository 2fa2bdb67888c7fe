/**
 * Remembers what the decoder found in a program: finding it takes longer than everything else a start does.
 * One small file for each program, by the hash of its bytes; losing them costs time, nothing else.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { parseMappable } from './elf-dynamic.js';
import { PACKER_VERSION } from './manifest.js';
import { findSites, type SiteOptions, type Sites } from './sites.js';

/**
 * findSites() of a file, remembered under `$XDG_CACHE_HOME/lockstep` (default `~/.cache/lockstep`);
 * null for what is neither program nor library.
 */
export function findSitesCached(bytes: Uint8Array, name: string, options: SiteOptions): Sites | null {
  // What somebody decided by hand is looked at afresh.
  const byHand = options.patch?.length || options.leave?.length;
  const file = cacheFile(bytes);
  const known = byHand ? undefined : read(file);
  if (known) return known;
  const elf = parseMappable(bytes, name);
  if (elf === null) return null;
  const sites = findSites(elf, options);
  if (!byHand) write(file, sites);
  return sites;
}

function cacheFile(bytes: Uint8Array): string {
  const base = process.env.XDG_CACHE_HOME || path.join(homedir(), '.cache');
  const hash = createHash('sha256').update(bytes).digest('hex');
  return path.join(base, 'lockstep', `sites-${PACKER_VERSION}-${hash}.json`);
}

function read(file: string): Sites | undefined {
  try {
    const { sites, check } = JSON.parse(readFileSync(file, 'utf8')) as { sites: Sites; check: string };
    return check === checkOf(sites) ? sites : undefined;
  } catch {
    return undefined;
  }
}

function write(file: string, sites: Sites): void {
  const draft = `${file}.${process.pid}`;
  try {
    mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
    writeFileSync(draft, JSON.stringify({ sites, check: checkOf(sites) }), { mode: 0o600 });
    renameSync(draft, file);
  } catch {
    // A home that cannot be written to only means that the next start searches again.
  }
}

/** A file that was cut or damaged must not patch anything. */
function checkOf(sites: Sites): string {
  return createHash('sha256').update(JSON.stringify(sites)).digest('hex').slice(0, 16);
}
