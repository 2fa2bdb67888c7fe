/**
 * Brings the blocks of a published image into its file: several connections at once, each of which may break at any
 * time. Whom somebody waits for comes first. Every block proves itself before it is written.
 */
import { guarded, LockstepError } from '../errors.js';
import type { NativeBlockStore } from '../native.js';
import type { Mirrors } from './mirrors.js';
import type { Job, Place, Plan } from './plan.js';
import { type Published, packPath } from './published.js';
import type { Piece, Source } from './source.js';

/** One request of what is fetched ahead takes about so long, because whoever is wanted waits behind it. */
const REQUEST_MS = 100;
const REQUEST_BYTES_MIN = 64 * 1024;
const REQUEST_BYTES_MAX = 1024 * 1024;
/** A block that comes damaged is fetched again, from another mirror where there is one, so often. */
const DAMAGED_MAX = 4;
const RATE_MS = 500;

export interface FetcherParts {
  /** Of the manifest, for people. */
  name: string;
  published: Published;
  store: NativeBlockStore;
  plan: Plan;
  mirrors: Mirrors;
  connections: number;
  /** Told of everything that shows in the progress. */
  changed: () => void;
}

export class Fetcher {
  /** What came over the connections, whatever became of it. */
  bytesReceived = 0;
  /** Blocks that came damaged and were fetched again. */
  refetched = 0;
  /** What came and is not in the file yet. */
  bufferedBytes = 0;
  /** Of the last moments, in bytes a second. */
  rate = 0;
  readonly #parts: FetcherParts;
  readonly #abort = new AbortController();
  readonly #sleepers: (() => void)[] = [];
  #wantedUnderWay = 0;
  #rateBytes = 0;
  #rateSince = Date.now();
  #failure: unknown;

  constructor(parts: FetcherParts) {
    this.#parts = parts;
  }

  /** Resolves when everything is there. Rejects with AbortError, or when a block cannot be had undamaged. */
  async run(signal: AbortSignal): Promise<void> {
    const stop = () => this.#fail(signal.reason);
    if (signal.aborted) stop();
    signal.addEventListener('abort', stop, { once: true });
    try {
      // The first serves nobody but those who wait; with a single connection it does both.
      const { connections } = this.#parts;
      const workers = Array.from({ length: connections }, (_, i) => this.#work(i > 0 || connections === 1));
      await Promise.all(workers);
      if (this.#failure !== undefined) throw this.#failure;
    } finally {
      signal.removeEventListener('abort', stop);
    }
  }

  want(block: number): void {
    this.#parts.plan.want(block);
    this.#wake();
  }

  #fail(why: unknown): void {
    this.#failure ??= why;
    this.#abort.abort(why);
    this.#wake();
  }

  async #work(fetchesAhead: boolean): Promise<void> {
    const { plan } = this.#parts;
    while (plan.missing > 0 && this.#failure === undefined) {
      const job = this.#nextJob(fetchesAhead);
      if (!job) {
        await new Promise<void>((wake) => this.#sleepers.push(wake));
        continue;
      }
      if (job.wanted) this.#wantedUnderWay++;
      await this.#fetch(job);
      if (job.wanted) this.#wantedUnderWay--;
      this.#wake();
    }
    this.#wake();
  }

  // While somebody waits, nothing else is asked for: all of the line is theirs.
  #nextJob(fetchesAhead: boolean): Job | undefined {
    const { plan } = this.#parts;
    const wanted = plan.nextWanted();
    if (wanted || !fetchesAhead || this.#wantedUnderWay > 0) return wanted;
    const bytes = (this.rate * REQUEST_MS) / 1000;
    return plan.nextInOrder(Math.min(Math.max(bytes, REQUEST_BYTES_MIN), REQUEST_BYTES_MAX));
  }

  #wake(): void {
    for (const wake of this.#sleepers.splice(0)) wake();
    this.#parts.changed();
  }

  async #fetch(job: Job): Promise<void> {
    const { mirrors, plan, published } = this.#parts;
    let source: Source | undefined;
    try {
      source = await mirrors.take(this.#abort.signal);
      const file = published.packs[job.pack];
      if (!file) throw new LockstepError('ERR_LOCKSTEP_INTERNAL', `there is no pack ${job.pack}`);
      const piece = await source.open(packPath(file), job.range, this.#abort.signal);
      await this.#receive(job, piece);
      mirrors.answered(source);
    } catch (error) {
      if (error instanceof LockstepError) this.#fail(error);
      else if (source && this.#failure === undefined) mirrors.failed(source, (error as Error).message);
    } finally {
      plan.giveBack(job);
    }
  }

  /** Takes out of a body, as it comes, what is to be had: of a whole file more than was asked for. */
  async #receive(job: Job, { start, whole, body }: Piece): Promise<void> {
    const places = whole ? this.#parts.plan.restOf(job.pack) : job.places;
    let pending = Buffer.alloc(0);
    let counted = 0;
    // Whatever becomes of this body, its part of the sum goes with it.
    const count = (bytes: number) => {
      this.bufferedBytes += bytes - counted;
      counted = bytes;
    };
    let at = start;
    let next = 0;
    try {
      for await (const chunk of body) {
        this.#received(chunk.length);
        pending = pending.length > 0 ? Buffer.concat([pending, chunk]) : Buffer.from(chunk);
        count(pending.length);
        for (; next < places.length; next++) {
          const place = places[next] as Place;
          if (place.start > at) {
            const skipped = Math.min(place.start - at, pending.length);
            pending = pending.subarray(skipped);
            at += skipped;
          }
          if (place.start > at || place.end - at > pending.length) break;
          await this.#take(place, pending.subarray(0, place.end - place.start));
          pending = pending.subarray(place.end - place.start);
          at = place.end;
        }
        count(pending.length);
        if (next === places.length && whole) break;
      }
    } finally {
      count(0);
    }
    if (next < places.length) throw new Error('it sent less than it had promised');
  }

  async #take(place: Place, frame: Uint8Array): Promise<void> {
    const { store, plan } = this.#parts;
    const wrong = await guarded(() => store.put(frame, place.blocks, place.within));
    if (wrong >= 0) {
      place.damaged++;
      this.refetched++;
      if (place.damaged >= DAMAGED_MAX) throw this.#refused(place, wrong);
      throw new Error(`block ${wrong} came damaged`);
    }
    plan.put(place);
    this.#wake();
  }

  #refused(place: Place, block: number): LockstepError {
    const { published, name } = this.#parts;
    const file = published.packs[place.pack];
    return new LockstepError(
      'ERR_LOCKSTEP_STREAM_DAMAGED',
      `block ${block} of ${name} is damaged wherever it is fetched from: ` +
        `bytes ${place.start} to ${place.end - 1} of ${file ? packPath(file) : 'its pack'}`,
      { hint: 'Publish the image again, to the same directory, once that file is deleted from it.' },
    );
  }

  #received(bytes: number): void {
    this.bytesReceived += bytes;
    this.#rateBytes += bytes;
    const passed = Date.now() - this.#rateSince;
    if (passed < RATE_MS) return;
    this.rate = (this.#rateBytes * 1000) / passed;
    this.#rateBytes = 0;
    this.#rateSince += passed;
  }
}
