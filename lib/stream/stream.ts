/** The stream manager: starts a machine from an image that is still on its way. */
import { deferred, withSignal } from '../deferred.js';
import { guarded, LockstepError } from '../errors.js';
import type { ImageInfo } from '../image/image-file.js';
import { Machine } from '../machine.js';
import type { NativeConfig } from '../native.js';
import {
  type ConsoleOptions,
  invalid,
  type LogOptions,
  logConfig,
  type MachineOptions,
  machineShare,
} from '../options.js';
import { Fetcher } from './fetcher.js';
import { fetchManifest, type Manifest } from './manifest.js';
import { Mirrors } from './mirrors.js';
import { openPartFile, type PartFile } from './part-file.js';
import { Plan } from './plan.js';
import { Source } from './source.js';

export interface StreamOptions {
  /** Where the image will stand. An older version there gives what it has in common, and is replaced. */
  output: string;
  /** Other addresses of the same manifest. */
  mirrors?: string[];
  /** The identity that the image must have. Default: whatever is published there. */
  sha256?: string;
  /** Default 4. */
  connections?: number;
  /** A connection on which nothing comes for so long is given up. Default 5,000. */
  stallMs?: number;
  /** How long to look for a manifest. Default 30,000. */
  timeoutMs?: number;
  /** Gives up while it is being opened. */
  signal?: AbortSignal;
}

export interface StreamProgress {
  /** `starting`: the machine cannot start yet. `waiting`: no mirror answers, and what is there stays there. */
  state: 'starting' | 'fetching' | 'waiting' | 'whole' | 'failed' | 'closed';
  /** What is there, compressed; also of earlier times, and of older versions. */
  bytes: number;
  bytesTotal: number;
  /** What came over the connections in this stream, the manifest included. */
  bytesReceived: number;
  /** In a second. */
  rate: number;
  /** Blocks for which the machine stood still until they came, or still does. */
  demandFaults: number;
  /** Blocks for which it stands still now. */
  waitedFor: number;
  /** What the file takes of the disk. */
  diskBytes: number;
  /** What was received and is not in the file yet: of each connection at most one frame and what came with it. */
  bufferedBytes: number;
  /** Blocks that came damaged and were fetched again. */
  refetched: number;
  /** What is wrong with the mirrors, or with the stream. */
  trouble?: string;
}

const CONNECTIONS_MAX = 32;

/**
 * An image that is fetched while machines run from it. It goes on by itself until it is whole, whatever becomes of the
 * connections; then it stands at `output`, and nothing needs the server any more. What a process that died had
 * fetched is found again.
 */
export class Stream implements AsyncDisposable {
  /** What is streamed. */
  readonly image: ImageInfo;
  /** Resolves when the image is whole, verified and in its place. Rejects when it cannot be, or when closed. */
  readonly finished: Promise<void>;

  readonly #manifest: Manifest;
  readonly #file: PartFile;
  readonly #plan: Plan;
  readonly #mirrors: Mirrors;
  readonly #fetcher: Fetcher;
  readonly #abort = new AbortController();
  readonly #end = deferred<void>();
  readonly #startable = deferred<void>();
  readonly #watchers = new Set<() => void>();
  readonly #pauses = new Set<() => void>();
  #state: StreamProgress['state'] = 'starting';
  #failure: string | undefined;
  #demandFaults = 0;

  /** Fetches the manifest, and what is needed before anything can start is asked for. */
  static async open(address: string, options: StreamOptions): Promise<Stream> {
    const {
      mirrors: others = [],
      connections = 4,
      stallMs = 5_000,
      timeoutMs = 30_000,
      sha256,
      signal,
    } = options;
    if (!Number.isInteger(connections) || connections < 1 || connections > CONNECTIONS_MAX)
      throw invalid(`connections must be a whole number from 1 to ${CONNECTIONS_MAX}, and is ${connections}`);
    const mirrors = new Mirrors([address, ...others].map((one) => new Source(one, stallMs)));
    try {
      const manifest = await fetchManifest(mirrors, { sha256, timeoutMs, signal });
      let wanted = (_: number) => {};
      const file = await openPartFile(options.output, manifest.published, (block) => wanted(block));
      const stream = new Stream(manifest, file, mirrors, connections);
      wanted = (block) => stream.#want(block);
      return stream;
    } catch (error) {
      mirrors.close();
      throw error;
    }
  }

  private constructor(manifest: Manifest, file: PartFile, mirrors: Mirrors, connections: number) {
    const { published, name } = manifest;
    const { store } = file;
    this.finished = this.#end.promise;
    this.#manifest = manifest;
    this.#file = file;
    this.#mirrors = mirrors;
    this.#plan = new Plan(published, store.have());
    const { state, blockHashes, ...image } = published.image;
    this.image = image;
    const changed = () => this.#changed();
    this.#fetcher = new Fetcher({ name, published, store, plan: this.#plan, mirrors, connections, changed });
    this.#fetcher.bytesReceived = manifest.bytes;
    for (const block of manifest.besides) this.#plan.want(block);
    this.#changed();
    void this.#run();
  }

  /** A machine of it goes on from where another one was. */
  get isSnapshot(): boolean {
    return this.image.mode === 'snapshot';
  }

  /** Resolves when a machine can start. */
  ready({ signal }: { signal?: AbortSignal } = {}): Promise<void> {
    return withSignal(this.#startable.promise, signal);
  }

  /** Makes a machine, without starting it, as soon as one can be made. Nothing is recorded. */
  async createMachine(
    options: MachineOptions & ConsoleOptions & { signal?: AbortSignal } = {},
  ): Promise<Machine> {
    return new Machine({ mode: 'run', ...(await this.machineConfig(options)) }, options);
  }

  /**
   * The same, of a machine that is recorded. The log keeps the image by its identity; replay it with the file at
   * `output`.
   */
  async createRecorded(
    options: MachineOptions & ConsoleOptions & Omit<LogOptions, 'imageByHash'> & { signal?: AbortSignal },
  ): Promise<Machine> {
    const log = logConfig({ ...options, imageByHash: true });
    return new Machine({ mode: 'record', ...(await this.machineConfig(options)), ...log }, options);
  }

  /** The configuration of a machine that starts from this, once one can. @internal */
  async machineConfig(
    options: MachineOptions & { signal?: AbortSignal },
  ): Promise<Omit<NativeConfig, 'mode'>> {
    await this.ready(options);
    return { ...machineShare(this, options), ...this.storeConfig() };
  }

  /** @internal */
  storeConfig(): Pick<NativeConfig, 'store' | 'storeSum'> {
    return { store: this.#file.store, storeSum: this.#manifest.published.memorySum };
  }

  get status(): StreamProgress {
    const { published, bytes } = this.#manifest;
    const bytesTotal = published.bytes + bytes;
    const trouble = this.#failure ?? this.#mirrors.trouble;
    const waits = this.#state === 'starting' || this.#state === 'fetching';
    return {
      state: waits && trouble !== undefined ? 'waiting' : this.#state,
      bytes: bytesTotal - this.#plan.bytesMissing,
      bytesTotal,
      bytesReceived: this.#fetcher.bytesReceived,
      rate: this.#fetcher.rate,
      demandFaults: this.#demandFaults,
      waitedFor: this.#plan.wantedMissing,
      diskBytes: published.front.length + this.#plan.blocksHere * published.image.blockBytes,
      bufferedBytes: this.#fetcher.bufferedBytes,
      refetched: this.#fetcher.refetched,
      ...(trouble !== undefined && { trouble }),
    };
  }

  /** The status now, and again whenever it changes, but not more often than asked for; ends with the stream. */
  async *progress({
    intervalMs = 200,
    signal,
  }: {
    intervalMs?: number;
    signal?: AbortSignal;
  } = {}): AsyncGenerator<StreamProgress> {
    for (;;) {
      const status = this.status;
      // Taken before it is looked at: what changes meanwhile is told at once.
      const changed = deferred<void>();
      this.#watchers.add(changed.resolve);
      try {
        yield status;
        if (this.#end.settled) return;
        await withSignal(changed.promise, signal);
        await this.#pause(intervalMs, signal);
      } finally {
        this.#watchers.delete(changed.resolve);
      }
    }
  }

  /** Gives up; what was fetched stays where it is for another time. Machines that need more stand still. */
  async close(): Promise<void> {
    this.#abort.abort(new LockstepError('ERR_LOCKSTEP_CLOSED', 'the stream was closed'));
    await this.finished.catch(() => {});
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #run(): Promise<void> {
    const { store } = this.#file;
    const { published, name } = this.#manifest;
    try {
      await this.#fetcher.run(this.#abort.signal);
      await guarded(() => store.sync());
      // What recordings of machines that ran meanwhile rely on.
      if ((await guarded(() => store.memorySum())) !== published.memorySum)
        throw new LockstepError(
          'ERR_LOCKSTEP_STREAM_DAMAGED',
          `${name} says something else of the image than the image itself: recordings made meanwhile are of no use`,
          { hint: 'Publish it again.' },
        );
      await this.#file.finish();
      this.#state = 'whole';
      this.#startable.resolve();
      this.#end.resolve();
    } catch (error) {
      this.#state = this.#abort.signal.aborted ? 'closed' : 'failed';
      this.#failure = (error as Error).message;
      this.#startable.reject(error);
      this.#end.reject(error);
    } finally {
      store.close();
      this.#mirrors.close();
      this.#changed();
      for (const end of this.#pauses) end();
    }
  }

  #want(block: number): void {
    this.#demandFaults++;
    this.#fetcher.want(block);
  }

  #changed(): void {
    if (this.#state === 'starting' && this.#firstGroupIsHere()) {
      this.#state = 'fetching';
      this.#startable.resolve();
    }
    for (const tell of this.#watchers) tell();
  }

  /** So long, or until the stream ends. */
  async #pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
    const over = deferred<void>();
    const timer = setTimeout(over.resolve, ms);
    this.#pauses.add(over.resolve);
    try {
      if (!this.#end.settled) await withSignal(over.promise, signal);
    } finally {
      clearTimeout(timer);
      this.#pauses.delete(over.resolve);
    }
  }

  #firstGroupIsHere(): boolean {
    return this.#plan.isHere(this.#manifest.first);
  }
}
