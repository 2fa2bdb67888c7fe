/**
 * Which bytes of an executable segment are instructions. Code is what is reached by following
 * direct branches from a known start, and what fills the rest of a function range and decodes
 * cleanly up to the next known instruction (cases of a switch are reached by jump tables only).
 */
import { CodeDecoder, Flow, isReplaceable, type SiteName } from './decoder.js';
import type { FunctionRange } from './eh-frame.js';
import type { ElfFile, ElfSegment } from './elf.js';

/** An instruction of interest at a proven instruction boundary. */
export interface FoundSite {
  address: number;
  length: number;
  name: SiteName;
  /** Of RDRAND, RDSEED and RDPID: the destination's number, 0-15. Otherwise 0. */
  register: number;
}

export class CodeMap {
  readonly start: number;
  readonly end: number;
  readonly sites = new Map<number, FoundSite>();
  /** Branch and call targets met on the way that lie in this segment but in no function range. */
  readonly outside = new Set<number>();
  /** Length of the instruction that starts at each byte; 0: none known. */
  readonly #lengths: Uint8Array;
  readonly #decoder: CodeDecoder;
  readonly #isInRange: (address: number) => boolean;

  constructor(elf: ElfFile, segment: ElfSegment, isInRange: (address: number) => boolean) {
    this.start = segment.vaddr;
    this.end = segment.vaddr + segment.fileBytes;
    this.#lengths = new Uint8Array(segment.fileBytes);
    this.#decoder = new CodeDecoder(elf.bytes.subarray(segment.offset, segment.offset + segment.fileBytes));
    this.#isInRange = isInRange;
  }

  /** Decodes a function: from its start and the given addresses by descent, then what is left. */
  addFunction(range: FunctionRange, starts: number[] = []): void {
    const limit = { start: Math.max(range.start, this.start), end: Math.min(range.end, this.end) };
    if (limit.end <= limit.start) return;
    this.#descend([limit.start, ...starts], limit, false);
    this.#fill(limit);
  }

  /** Follows branches from an address that lies in no function range, never into one. */
  addCode(start: number): void {
    this.#descend([start], { start: this.start, end: this.end }, true);
  }

  /** The known instruction that holds the byte at `address`: its start; null for none. */
  holder(address: number): number | null {
    for (let back = 0; back < 15 && address - back >= this.start; back++) {
      if ((this.#lengths[address - back - this.start] ?? 0) > back) return address - back;
    }
    return null;
  }

  /** True when another known instruction starts inside this one, or this one inside another. */
  isAmbiguous(site: FoundSite): boolean {
    for (let i = 1; i < site.length; i++)
      if ((this.#lengths[site.address + i - this.start] ?? 0) > 0) return true;
    for (let back = 1; back < 15 && site.address - back >= this.start; back++) {
      if ((this.#lengths[site.address - back - this.start] ?? 0) > back) return true;
    }
    return false;
  }

  /** Decodes the one instruction at `address`, whether it is known or not. */
  siteAt(address: number): FoundSite | null {
    this.#decoder.at(address - this.start, address);
    this.#decoder.step();
    return this.#siteHere(address);
  }

  /** What _start passes to __libc_start_main: the last address put into RDI before the first call. */
  mainOf(entry: number): number | null {
    const decoder = this.#decoder;
    decoder.at(entry - this.start, entry);
    let main: number | null = null;
    for (let i = 0; i < 32; i++) {
      decoder.step();
      main = decoder.addressIntoRdi ?? main;
      if (decoder.flow !== Flow.next) break;
    }
    return main !== null && main >= this.start && main < this.end ? main : null;
  }

  /**
   * Whether code that runs through the `window` bytes before `address` could have an instruction
   * of interest there. False is certain, but for starts that lie inside the window themselves:
   * instructions have at most 15 bytes, so any path through has a boundary at one of the first
   * 15 bytes, and all of those (or, as a mere hint, the first `starts`) are tried.
   */
  couldHoldSite(address: number, from: number, starts: number): boolean {
    const first = Math.max(this.start, from);
    const seen = new Set<number>();
    for (let start = first; start < first + starts && start <= address; start++) {
      let at = start;
      this.#decoder.at(at - this.start, at);
      while (at <= address && !seen.has(at)) {
        seen.add(at);
        this.#decoder.step();
        const next = at + this.#decoder.length;
        if (next > address && this.#decoder.site !== undefined) return true;
        if (this.#decoder.flow === Flow.invalid) break;
        at = next;
      }
    }
    return false;
  }

  free(): void {
    this.#decoder.free();
  }

  #siteHere(address: number): FoundSite | null {
    const name = this.#decoder.site;
    if (name === undefined || this.#decoder.flow === Flow.invalid) return null;
    const hasRegister = isReplaceable(name) && name !== 'cpuid' && name !== 'rdtsc' && name !== 'rdtscp';
    return {
      address,
      length: this.#decoder.length,
      name,
      register: hasRegister ? this.#decoder.register : 0,
    };
  }

  #descend(starts: number[], limit: FunctionRange, outsideRanges: boolean): void {
    const work = [...starts];
    for (let from = work.pop(); from !== undefined; from = work.pop()) {
      this.#straight(from, limit, outsideRanges, work);
    }
  }

  /** One straight run of instructions up to a jump, a known instruction or the limit. */
  #straight(from: number, limit: FunctionRange, outsideRanges: boolean, work: number[]): void {
    const decoder = this.#decoder;
    let at = from;
    // A call may never return: what follows it is believed only when the run ends well.
    let sinceCall: number[] = [];
    if (from >= limit.start && from < limit.end) decoder.at(at - this.start, at);
    while (at >= limit.start && at < limit.end && this.#lengths[at - this.start] === 0) {
      if (outsideRanges && this.#isInRange(at)) return;
      decoder.step();
      if (decoder.flow === Flow.invalid || at + decoder.length > limit.end) {
        this.#retract(sinceCall);
        return;
      }
      this.#add(at);
      sinceCall.push(at);
      at += decoder.length;
      const { flow } = decoder;
      if (flow === Flow.branch || flow === Flow.jump || flow === Flow.call) {
        this.#follow(decoder.target, limit, outsideRanges || flow !== Flow.call, work);
      }
      if (flow === Flow.call) sinceCall = [];
      if (flow === Flow.jump || flow === Flow.stop) return;
    }
  }

  /** Queues a target in the code at hand; remembers one that belongs to no function range. */
  #follow(target: number, limit: FunctionRange, descend: boolean, work: number[]): void {
    const inLimit = target >= limit.start && target < limit.end;
    if (inLimit && descend) work.push(target);
    else if (target >= this.start && target < this.end && !this.#isInRange(target)) this.outside.add(target);
  }

  #add(address: number): void {
    this.#lengths[address - this.start] = this.#decoder.length;
    const site = this.#siteHere(address);
    if (site !== null) this.sites.set(address, site);
  }

  #retract(addresses: number[]): void {
    for (const address of addresses) {
      this.#lengths[address - this.start] = 0;
      this.sites.delete(address);
    }
  }

  /** Linear decoding of every stretch of a function that descent has not reached. */
  #fill(range: FunctionRange): void {
    let at = range.start;
    while (at < range.end) {
      const known = this.#lengths[at - this.start] ?? 0;
      if (known > 0) {
        at += known;
        continue;
      }
      const stretch = this.#decodeStretch(at, range.end);
      if (stretch === null) {
        // Tables or padding: left alone up to the next instruction that is known.
        do at++;
        while (at < range.end && this.#lengths[at - this.start] === 0);
      } else {
        for (const target of stretch) this.#descend([target], range, false);
      }
    }
  }

  /**
   * Decodes from `start` to a known instruction or the end of the function. Takes the stretch
   * and returns its branch targets when it decodes as plausible code that ends exactly there.
   */
  #decodeStretch(start: number, end: number): number[] | null {
    const decoder = this.#decoder;
    const added: number[] = [];
    const targets: number[] = [];
    decoder.at(start - this.start, start);
    let at = start;
    while (at < end && this.#lengths[at - this.start] === 0) {
      decoder.step();
      const last = at + decoder.length;
      let good = decoder.flow !== Flow.invalid && decoder.flow !== Flow.privileged && last <= end;
      for (let i = at + 1; good && i < last; i++) good = this.#lengths[i - this.start] === 0;
      if (!good) {
        this.#retract(added);
        return null;
      }
      this.#add(at);
      added.push(at);
      if (decoder.flow === Flow.branch || decoder.flow === Flow.jump) targets.push(decoder.target);
      else if (decoder.flow === Flow.call) this.#follow(decoder.target, { start: 0, end: 0 }, false, targets);
      at = last;
    }
    return targets.filter((target) => {
      const inside = target >= this.start && target < this.end;
      if (inside && !this.#isInRange(target)) this.outside.add(target);
      return inside;
    });
  }
}
