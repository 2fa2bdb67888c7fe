/** In which order an image's blocks are worth having. */
import type { ImageInfo } from '../image/image-file.js';
import { globMatcher } from './glob.js';
import type { Place } from './places.js';
import { basesOf, isProfile, type Profile, type TouchedRange } from './profile.js';

/** What a block is needed for; the smaller, the sooner. */
export const Group = {
  /** Before the machine starts: what most runs touched, or what every start needs. */
  START: 0,
  /** What some runs touched; without a profile, the program and its libraries. */
  SOON: 1,
  REST: 2,
  /** By --last. */
  LAST: 3,
} as const;
export type Group = (typeof Group)[keyof typeof Group];

export interface GroupOptions {
  profile?: Profile;
  /** Patterns of files that are needed at once, and of those that can wait, whatever was learned. */
  first?: readonly string[];
  last?: readonly string[];
}

export function isGroupOptions(value: unknown): value is GroupOptions {
  if (typeof value !== 'object' || value === null) return false;
  const { profile, first, last } = value as GroupOptions;
  const isList = (list: unknown): boolean =>
    list === undefined || (Array.isArray(list) && list.every((text) => typeof text === 'string'));
  return (profile === undefined || isProfile(profile)) && isList(first) && isList(last);
}

/** A file's group where nothing was learned. */
const NEEDED = /^(program|interpreter of |needed by |dynamic linker of )/;
const LINKER = /^dynamic linker of /;
/** Of a program: its ELF header, program headers and, of most, what ld.so reads first. */
const HEADERS_BYTES = 4096;

type Layout = Pick<ImageInfo, 'segments' | 'contentOffset' | 'contentBytes' | 'blockBytes' | 'manifest'>;

/** The group of each block of the image's content. */
export function groupsOf(image: Layout, places: readonly Place[], options: GroupOptions = {}): Group[] {
  const blocks = new BlockGroups(image);
  const isFirst = anyOf(options.first);
  const isLast = anyOf(options.last);
  const bases = basesOf(places);
  const judge = options.profile ? learned(options.profile) : unlearned(image);
  for (const { name, gpa, bytes } of places) {
    if (isFirst(name)) blocks.lower(gpa, bytes, Group.START);
    else if (isLast(name)) blocks.lower(gpa, bytes, Group.LAST);
    else {
      const base = bases.get(name) ?? gpa;
      for (const [offset, length, group] of judge(name, gpa - base, bytes))
        blocks.lower(base + offset, length, group);
      blocks.lower(gpa, bytes, Group.REST);
    }
  }
  return blocks.groups();
}

type Judged = [offset: number, bytes: number, group: Group];
type Judge = (name: string, offset: number, bytes: number) => Judged[];

/** Half of the runs make a block one to start with. */
function learned(profile: Profile): Judge {
  return (name, offset, bytes) =>
    (profile.places[name] ?? [])
      .filter(([at, length]: TouchedRange) => at < offset + bytes && offset < at + length)
      .map(([at, length, runs]) => {
        const start = Math.max(at, offset);
        const end = Math.min(at + length, offset + bytes);
        return [start, end - start, 2 * runs >= profile.runs ? Group.START : Group.SOON];
      });
}

/** The kernel and what it reads, the program's headers, ld.so; then the program and its libraries. */
function unlearned(image: Layout): Judge {
  const files = image.manifest.kind === 'program' ? image.manifest.files : [];
  const reasons = new Map(files.map(({ path, why }) => [path, why]));
  return (name, offset, bytes) => {
    if (name === 'memory') return [[offset, bytes, Group.REST]];
    if (!name.startsWith('/')) return [[offset, bytes, Group.START]];
    const why = reasons.get(name) ?? '';
    if (LINKER.test(why)) return [[offset, bytes, Group.START]];
    if (!NEEDED.test(why)) return [];
    const headers: Judged[] = why === 'program' ? [[0, Math.min(HEADERS_BYTES, bytes), Group.START]] : [];
    return [...headers, [offset, bytes, Group.SOON]];
  };
}

function anyOf(patterns: readonly string[] = []): (name: string) => boolean {
  const matchers = patterns.map(globMatcher);
  return (name) => name.startsWith('/') && matchers.some((matches) => matches(name));
}

/** How many bytes of a place are in blocks of each group. */
export function bytesByGroup(image: Layout, place: Place, groups: readonly Group[]): Map<Group, number> {
  const bytes = new Map<Group, number>();
  new BlockMap(image).each(place.gpa, place.bytes, (block, length) => {
    const group = groups[block] ?? Group.REST;
    bytes.set(group, (bytes.get(group) ?? 0) + length);
  });
  return bytes;
}

/** Each block has the group of whatever in it is needed first. */
class BlockGroups {
  readonly #groups: (Group | undefined)[];
  readonly #map: BlockMap;

  constructor(image: Layout) {
    this.#groups = new Array(Math.ceil(image.contentBytes / image.blockBytes)).fill(undefined);
    this.#map = new BlockMap(image);
  }

  lower(gpa: number, bytes: number, group: Group): void {
    this.#map.each(gpa, bytes, (block) => {
      if ((this.#groups[block] ?? Group.LAST) >= group) this.#groups[block] = group;
    });
  }

  groups(): Group[] {
    return this.#groups.map((group) => group ?? Group.REST);
  }
}

/** Which blocks of the content a part of memory begins with. */
class BlockMap {
  readonly #image: Layout;
  readonly #segments: Layout['segments'];

  constructor(image: Layout) {
    this.#image = image;
    this.#segments = [...image.segments].sort((a, b) => a.gpa - b.gpa);
  }

  each(gpa: number, bytes: number, take: (block: number, bytes: number) => void): void {
    const { contentOffset, blockBytes } = this.#image;
    for (let i = this.#firstAfter(gpa); i < this.#segments.length; i++) {
      const segment = this.#segments[i] as Layout['segments'][number];
      if (segment.gpa >= gpa + bytes) break;
      const base = segment.fileOffset - contentOffset - segment.gpa;
      const end = Math.min(gpa + bytes, segment.gpa + segment.bytes) + base;
      for (let at = Math.max(gpa, segment.gpa) + base; at < end; ) {
        const block = Math.floor(at / blockBytes);
        const next = Math.min(end, (block + 1) * blockBytes);
        take(block, next - at);
        at = next;
      }
    }
  }

  /** The first segment that ends behind an address. */
  #firstAfter(gpa: number): number {
    let low = 0;
    let high = this.#segments.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const { gpa: start, bytes } = this.#segments[middle] as Layout['segments'][number];
      if (start + bytes <= gpa) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
