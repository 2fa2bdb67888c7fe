/** What runs of a program touched of its image, kept by place so that it serves the image's next version too. */
import { readFile } from 'node:fs/promises';
import { LockstepError } from '../errors.js';
import type { Place } from './places.js';

const PAGE = 4096;

/**
 * [offset, bytes, runs that touched it up to the moment], ascending and apart from each other. None: it was touched
 * soon after only.
 */
export type TouchedRange = [offset: number, bytes: number, runs: number];

export interface Profile {
  version: 1;
  /** How many runs were watched. */
  runs: number;
  /** By the place's name: a file's path, or `kernel`, `boot`, `strings`, `index`, `memory`. */
  places: Record<string, TouchedRange[]>;
}

/** The profile of one run that touched these pages; the first `before` of them up to its moment. Default: all. */
export function profileOf(places: readonly Place[], pages: Iterable<number>, before = Infinity): Profile {
  const inOrder = [...new Set(pages)];
  const early = new Set(inOrder.slice(0, before));
  const touched = inOrder.sort((a, b) => a - b);
  const ranges: Record<string, TouchedRange[]> = {};
  const bases = basesOf(places);
  for (const { name, gpa, bytes } of places) {
    const base = bases.get(name) ?? gpa;
    for (let i = firstAtLeast(touched, Math.floor(gpa / PAGE)); i < touched.length; i++) {
      const page = (touched[i] as number) * PAGE;
      if (page >= gpa + bytes) break;
      const start = Math.max(page, gpa) - base;
      const end = Math.min(page + PAGE, gpa + bytes) - base;
      ranges[name] ??= [];
      ranges[name].push([start, end - start, early.has(touched[i] as number) ? 1 : 0]);
    }
  }
  for (const name of Object.keys(ranges)) ranges[name] = sum(ranges[name] ?? []);
  return { version: 1, runs: 1, places: ranges };
}

/** Where offsets of a name count from: places of one name lie in its space as they do in memory. */
export function basesOf(places: readonly Place[]): Map<string, number> {
  const bases = new Map<string, number>();
  for (const { name, gpa } of places) if (!bases.has(name)) bases.set(name, gpa);
  return bases;
}

/** All runs of several profiles together. */
export function mergeProfiles(profiles: readonly Profile[]): Profile {
  const places: Record<string, TouchedRange[]> = {};
  for (const profile of profiles)
    for (const [name, ranges] of Object.entries(profile.places))
      places[name] = sum([...(places[name] ?? []), ...ranges]);
  return { version: 1, runs: profiles.reduce((total, { runs }) => total + runs, 0), places };
}

/** Reads a profile. Throws ERR_LOCKSTEP_SYSTEM and ERR_LOCKSTEP_INVALID_ARGUMENT. */
export async function readProfile(file: string): Promise<Profile> {
  const text = await readFile(file, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new LockstepError('ERR_LOCKSTEP_SYSTEM', `cannot read ${file}: ${cause.message}`, { cause });
  });
  const profile = parseProfile(text);
  if (profile !== null) return profile;
  throw new LockstepError('ERR_LOCKSTEP_INVALID_ARGUMENT', `${file} is no profile`, {
    hint: 'Make one with `lockstep learn`.',
  });
}

/** Null for what is no profile. */
export function parseProfile(text: string): Profile | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  return isProfile(value) ? value : null;
}

export function isProfile(value: unknown): value is Profile {
  const { version, runs, places } = (value ?? {}) as Partial<Profile>;
  const isRange = (range: unknown): boolean =>
    Array.isArray(range) && range.length === 3 && range.every((n) => Number.isSafeInteger(n) && n >= 0);
  return (
    version === 1 &&
    Number.isSafeInteger(runs) &&
    (runs as number) > 0 &&
    typeof places === 'object' &&
    places !== null &&
    Object.values(places).every((ranges) => Array.isArray(ranges) && ranges.every(isRange))
  );
}

/** Ranges that may overlap become ranges that do not; where several lie, their runs are added. */
function sum(ranges: readonly TouchedRange[]): TouchedRange[] {
  const steps = new Map<number, { lying: number; runs: number }>();
  const step = (at: number, lying: number, runs: number): void => {
    const before = steps.get(at) ?? { lying: 0, runs: 0 };
    steps.set(at, { lying: before.lying + lying, runs: before.runs + runs });
  };
  for (const [offset, bytes, runs] of ranges) {
    step(offset, 1, runs);
    step(offset + bytes, -1, -runs);
  }
  const result: TouchedRange[] = [];
  let start = 0;
  let lying = 0;
  let runs = 0;
  for (const [at, by] of [...steps].sort(([a], [b]) => a - b)) {
    const wasLying = lying > 0;
    lying += by.lying;
    if (by.runs === 0 && wasLying === lying > 0) continue;
    if (wasLying) result.push([start, at - start, runs]);
    runs += by.runs;
    start = at;
  }
  return result;
}

/** Index of the first number of an ascending list that is not below `value`. */
function firstAtLeast(list: readonly number[], value: number): number {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((list[middle] as number) < value) low = middle + 1;
    else high = middle;
  }
  return low;
}
