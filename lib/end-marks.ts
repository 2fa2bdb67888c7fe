/** What an arbiter knows of machines that are over: so a side that comes back later looks for nobody. */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { EndReason } from './events.js';

/** How a pair's machine ended. */
export interface PairEnd {
  reason: EndReason;
  status: number;
}

export interface EndMarks {
  record(pairId: string, end: PairEnd): Promise<void>;
  /** Undefined: not over, as far as is known. */
  find(pairId: string): Promise<PairEnd | undefined>;
}

/** With these the machine is over, and not only one side of it. */
const FOR_ALL: readonly EndReason[] = ['exited', 'signal', 'panic', 'halted', 'shutdown'];

export const isOverForAll = ({ reason }: { reason: EndReason }): boolean => FOR_ALL.includes(reason);

/** Ids become names of files and keys; a peer may have said anything. */
export const isPairId = (id: string): boolean => /^[\w-]{1,64}$/.test(id);

export function parseEnd(text: string): PairEnd | undefined {
  const { reason, status } = JSON.parse(text) as Partial<PairEnd>;
  return reason && isOverForAll({ reason }) && Number.isInteger(status)
    ? { reason, status: status as number }
    : undefined;
}

/** Beside the claims in an arbiter's directory. */
export class EndFiles implements EndMarks {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  async record(pairId: string, end: PairEnd): Promise<void> {
    const path = join(this.#directory, `${pairId}.end`);
    const temporary = `${path}.${process.pid}`;
    writeFileSync(temporary, JSON.stringify(end), { mode: 0o600 });
    renameSync(temporary, path);
  }

  async find(pairId: string): Promise<PairEnd | undefined> {
    try {
      return parseEnd(readFileSync(join(this.#directory, `${pairId}.end`), 'utf8'));
    } catch {
      return undefined;
    }
  }
}

/** Of arbiters within this process, by name. */
export class EndsHere implements EndMarks {
  static readonly #known = new Map<string, PairEnd>();
  readonly #name: string;

  constructor(name: string) {
    this.#name = name;
  }

  async record(pairId: string, end: PairEnd): Promise<void> {
    EndsHere.#known.set(`${this.#name} ${pairId}`, end);
  }

  async find(pairId: string): Promise<PairEnd | undefined> {
    return EndsHere.#known.get(`${this.#name} ${pairId}`);
  }
}
