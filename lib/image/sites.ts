/**
 * Finds the instructions of a program whose results differ between runs or hosts, and decides
 * which of them the packer replaces. A site counts only when it is reached from the entry point,
 * a symbol or inside an .eh_frame function; every other look-alike is left and named.
 */
import { LockstepError } from '../errors.js';
import { branches, shortBranches } from './branches.js';
import { type CallSite, findCalls } from './calls.js';
import { CodeMap, type FoundSite } from './code-map.js';
import { isReplaceable } from './decoder.js';
import type { FunctionRange } from './eh-frame.js';
import { type ElfFile, type ElfSegment, PF_X, PT_LOAD } from './elf.js';
import { Functions } from './functions.js';
import { findPatterns, type Pattern } from './patterns.js';

/** An instruction to replace. Addresses are the file's own virtual addresses. */
export interface Site extends FoundSite {
  /** Where its first byte (prefixes included) stands in the file. */
  offset: number;
}

/** Bytes that look like such an instruction and are left as they are. */
export interface LeftSite {
  address: number;
  instruction: string;
  reason: string;
}

/** A reached instruction that is never replaced but can make two hosts differ. */
export interface WatchedSite {
  address: number;
  instruction: string;
}

export interface SiteOptions {
  /** Replace the instruction at each of these addresses even where it is not reached. */
  patch?: readonly number[];
  /** Leave the instruction at each of these addresses. */
  leave?: readonly number[];
}

export interface Sites {
  replaced: Site[];
  left: LeftSite[];
  watch: WatchedSite[];
  /** System calls that go through the vDSO instead. */
  calls: CallSite[];
}

/**
 * Finds all sites of a file, sorted by address.
 * Throws ERR_LOCKSTEP_INVALID_ARGUMENT when a `patch` or `leave` address holds no such instruction.
 */
export function findSites(elf: ElfFile, options: SiteOptions = {}): Sites {
  const functions = new Functions(elf);
  const result: Sites = { replaced: [], left: [], watch: [], calls: [] };
  const unused = new Set([...(options.patch ?? []), ...(options.leave ?? [])]);
  for (const segment of elf.segments) {
    if (segment.type !== PT_LOAD || (segment.flags & PF_X) === 0) continue;
    for (const call of findCalls(elf, segment, functions)) {
      if (!options.leave?.includes(call.address)) result.calls.push(call);
      else unused.delete(call.address);
    }
    const patterns = findPatterns(elf.bytes, segment.offset, segment.offset + segment.fileBytes);
    if (patterns.length === 0) continue;
    const map = new CodeMap(elf, segment, (address) => functions.at(address) !== null);
    try {
      mapCode(elf, segment, patterns, functions, map);
      sortOut(segment, patterns, functions, map, options, unused, result);
    } finally {
      map.free();
    }
  }
  for (const address of unused) throw noSite(elf, address);
  for (const list of [result.replaced, result.left, result.watch]) list.sort((a, b) => a.address - b.address);
  return result;
}

/** `rdrand r10d` and the like: what a person would read in a disassembly. */
export function describeSite(site: FoundSite): string {
  const bits = { rdrand32: 32, rdseed32: 32, rdrand64: 64, rdseed64: 64, rdpid: 64 }[site.name as string];
  if (bits === undefined) return site.name.replace(/^(rdrand|rdseed)16$/, '$1 (16 bit)');
  const name = ['ax', 'cx', 'dx', 'bx', 'sp', 'bp', 'si', 'di'][site.register];
  const register =
    name === undefined ? `r${site.register}${bits === 32 ? 'd' : ''}` : (bits === 32 ? 'e' : 'r') + name;
  return `${site.name.replace(/(32|64)$/, '')} ${register}`;
}

/** Decodes what could hold a site: functions with a pattern in them, and code outside functions. */
function mapCode(
  elf: ElfFile,
  segment: ElfSegment,
  patterns: Pattern[],
  functions: Functions,
  map: CodeMap,
): void {
  const done = new Set<FunctionRange>();
  const add = (range: FunctionRange | null): void => {
    if (range === null || done.has(range)) return;
    done.add(range);
    map.addFunction(range, functions.startsIn(range));
  };
  const outside: number[] = [];
  for (const pattern of patterns) {
    const address = pattern.offset - segment.offset + segment.vaddr;
    const range = functions.at(address);
    if (range === null) {
      if (pattern.replaceable) outside.push(address);
    } else if (!done.has(range)) {
      // What is only listed is worth a look at the bytes before it, not at every such function.
      const hint = pattern.replaceable || map.couldHoldSite(address, Math.max(range.start, address - 96), 2);
      if (hint) add(range);
    }
  }

  // Code outside all functions (hand-written assembler, programs built without unwind tables)
  // counts when something known leads there: the entry, main, a symbol, a branch from a function.
  if (outside.length === 0) return;
  const starts = functions.starts.filter((start) => start >= map.start && start < map.end);
  if (elf.entry >= map.start && elf.entry < map.end) {
    starts.push(elf.entry);
    const main = map.mainOf(elf.entry);
    if (main !== null) starts.push(main);
  }
  if (!couldBeReached(elf.bytes, segment, outside, starts, map)) return;
  for (const from of branches(elf.bytes, segment, (target) => functions.at(target) === null))
    add(functions.at(from));
  for (const target of map.outside) starts.push(target);
  map.outside.clear();
  for (const start of starts) if (functions.at(start) === null) map.addCode(start);
}

/**
 * False when no path, whatever its start, can have an instruction of interest at one of these
 * addresses: none runs into it in step through the bytes before it, nor from a place among those
 * bytes that anything could branch to. It spares most programs the decoding of all code that no
 * function range covers.
 */
function couldBeReached(
  bytes: Buffer,
  segment: ElfSegment,
  addresses: number[],
  starts: number[],
  map: CodeMap,
): boolean {
  const window = 64;
  if (addresses.some((address) => map.couldHoldSite(address, address - window, 15))) return true;
  const leads = (address: number, target: number): boolean =>
    target > address - window && target <= address && map.couldHoldSite(address, target, 1);
  for (const address of addresses) {
    const short = shortBranches(bytes, segment, address - window + 1, address);
    const near = [...starts, ...short.map(({ target }) => target)];
    if (near.some((target) => leads(address, target))) return true;
  }
  return branches(bytes, segment, (target) => addresses.some((address) => leads(address, target))).length > 0;
}

function sortOut(
  segment: ElfSegment,
  patterns: Pattern[],
  functions: Functions,
  map: CodeMap,
  options: SiteOptions,
  unused: Set<number>,
  result: Sites,
): void {
  const place = (site: FoundSite): Site => ({
    ...site,
    offset: site.address - segment.vaddr + segment.offset,
  });
  const forced = new Set<number>();
  for (const address of options.patch ?? []) {
    if (address < map.start || address >= map.end) continue;
    const site = map.siteAt(address);
    if (site === null || !isReplaceable(site.name)) continue;
    unused.delete(address);
    forced.add(address);
    result.replaced.push(place(site));
  }
  for (const site of map.sites.values()) {
    if (forced.has(site.address)) continue;
    const instruction = describeSite(site);
    if (!isReplaceable(site.name)) {
      result.watch.push({ address: site.address, instruction });
    } else if (options.leave?.includes(site.address)) {
      unused.delete(site.address);
      result.left.push({ address: site.address, instruction, reason: 'asked for by --leave' });
    } else if (map.isAmbiguous(site)) {
      result.left.push({ address: site.address, instruction, reason: 'overlaps another instruction' });
    } else {
      result.replaced.push(place(site));
    }
  }
  for (const pattern of patterns) {
    if (!pattern.replaceable) continue;
    const address = pattern.offset - segment.offset + segment.vaddr;
    const holder = map.holder(address);
    if (holder !== null && map.sites.has(holder)) continue;
    if (result.replaced.some((site) => address >= site.address && address < site.address + site.length))
      continue;
    const reason =
      holder !== null
        ? `bytes inside the instruction at 0x${holder.toString(16)}`
        : functions.at(address) !== null
          ? 'in a part of a function that does not decode as code'
          : 'not reached from an entry point, a symbol or an .eh_frame function';
    if (options.leave?.includes(address)) unused.delete(address);
    result.left.push({ address, instruction: pattern.instruction, reason });
  }
}

function noSite(elf: ElfFile, address: number): LockstepError {
  const at = `0x${address.toString(16)}`;
  return new LockstepError(
    'ERR_LOCKSTEP_INVALID_ARGUMENT',
    `${elf.name} has no replaceable instruction at ${at}.`,
    {
      hint: 'Take an address from sites.replaced or sites.left of the image manifest; prefixes belong to the instruction.',
    },
  );
}
