/** One access of the guest to a device. */
export interface TraceExit {
  /** Accesses since boot. */
  position: number;
  /** The last event before it. */
  lsn: number;
  kind: 'port' | 'mmio' | 'halt';
  /** Port number or physical address. */
  address: bigint;
  /** What the guest wrote, or was given. */
  value: bigint;
  sizeBytes: number;
  write: boolean;
}

/** A page that the guest, or a device for it, wrote to since the previous batch. */
export interface TraceDirtyPage {
  position: number;
  lsn: number;
  /** The page's number: its physical address divided by 4096. */
  page: number;
}

export interface TraceBatch {
  exits: TraceExit[];
  dirtyPages: TraceDirtyPage[];
  /** Entries that did not fit since the previous batch. */
  dropped: number;
}

export interface TraceOptions {
  /** Trace accesses. Default true. */
  exits?: boolean;
  /** Trace dirtied pages. Default false. */
  dirtyPages?: boolean;
  /** Keep only exits for which this says true. */
  filter?: (exit: TraceExit) => boolean;
  /** Most entries of one batch; the rest is dropped and counted. Default 16,384. */
  entriesMax?: number;
  signal?: AbortSignal;
}

const WORDS = 6;
const KINDS = ['port', 'mmio', 'halt'] as const;

export function decodeTrace(
  words: BigUint64Array,
  dropped: number,
  filter?: TraceOptions['filter'],
): TraceBatch {
  const batch: TraceBatch = { exits: [], dirtyPages: [], dropped };
  for (let at = 0; at + WORDS <= words.length; at += WORDS) {
    const word = (index: number) => words[at + index] as bigint;
    const position = Number(word(0));
    const lsn = Number(word(1));
    const kind = KINDS[Number(word(4))];
    if (!kind) {
      batch.dirtyPages.push({ position, lsn, page: Number(word(2)) });
      continue;
    }
    const flags = Number(word(5));
    const sizeBytes = flags & 0xff;
    const write = (flags & 0x100) !== 0;
    const exit = { position, lsn, kind, address: word(2), value: word(3), sizeBytes, write };
    if (!filter || filter(exit)) batch.exits.push(exit);
  }
  return batch;
}

/** Batches on their way to whoever iterates. Bounded: a slow reader loses entries, and is told how many. */
export class TraceQueue {
  static readonly #batchesMax = 64;
  #batches: { words: BigUint64Array; dropped: number }[] = [];
  #lost = 0;
  #over = false;
  #wake: (() => void) | undefined;

  /** @param number - of this trace among its machine's. */
  constructor(readonly number: number) {}

  push(words: BigUint64Array, dropped: number): void {
    if (this.#batches.length < TraceQueue.#batchesMax) {
      this.#batches.push({ words, dropped: dropped + this.#lost });
      this.#lost = 0;
    } else {
      this.#lost += dropped + words.length / WORDS;
    }
    this.#wake?.();
  }

  end(): void {
    this.#over = true;
    this.#wake?.();
  }

  /** The next batch; undefined when the machine is over. */
  async next(filter: TraceOptions['filter']): Promise<TraceBatch | undefined> {
    while (this.#batches.length === 0 && !this.#over) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const batch = this.#batches.shift();
    return batch && decodeTrace(batch.words, batch.dropped, filter);
  }
}
