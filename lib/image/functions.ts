import { type FunctionRange, functionRanges } from './eh-frame.js';
import type { ElfFile } from './elf.js';

/** The function ranges of a file, from .eh_frame and from symbols that have a size. */
export class Functions {
  readonly #ranges: FunctionRange[] = [];
  /** Symbols without a size, and those that lie inside another's range. */
  readonly starts: number[];

  constructor(elf: ElfFile) {
    const all = functionRanges(elf);
    for (const f of elf.functions) if (f.bytes > 0) all.push({ start: f.address, end: f.address + f.bytes });
    all.sort((a, b) => a.start - b.start || b.end - a.end);
    this.starts = elf.functions.map((f) => f.address);
    for (const range of all) {
      const last = this.#ranges.at(-1);
      if (last === undefined || range.start >= last.end) this.#ranges.push({ ...range });
      else if (range.start > last.start) {
        // Overlapping ranges (a second entry into a function): one range, two known starts.
        last.end = Math.max(last.end, range.end);
        this.starts.push(range.start);
      }
    }
    this.starts.sort((a, b) => a - b);
  }

  /** The range that holds an address, or null. */
  at(address: number): FunctionRange | null {
    let low = 0;
    let high = this.#ranges.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#ranges[middle]?.start ?? 0) <= address) low = middle + 1;
      else high = middle;
    }
    const range = this.#ranges[low - 1];
    return range !== undefined && address < range.end ? range : null;
  }

  startsIn(range: FunctionRange): number[] {
    return this.starts.filter((start) => start > range.start && start < range.end);
  }
}
