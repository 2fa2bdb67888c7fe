import { EventEmitter } from 'node:events';
import { native } from './addon.js';
import { type Divergence, DivergenceError, guarded } from './errors.js';
import type { Ended } from './events.js';
import type { Image } from './image.js';
import { Machine } from './machine.js';
import {
  type ConsoleOptions,
  imageConfig,
  type MachineOptions,
  type SandboxOptions,
  sandboxConfig,
} from './options.js';
import type { RecordingInfo } from './recording.js';

export interface ReplayOptions extends Omit<ConsoleOptions, 'stdin'>, SandboxOptions {
  /** Stand still after this event, to inspect the machine. `replay.machine.resume()` goes on. */
  stopAtEvent?: number;
  /** After `stopAtEvent`, leave the log and go on live, unrecorded. Default false: go on with the log. */
  liveAfterStop?: boolean;
  /** The image or snapshot, or the bytes of its file, for a log that has only its hash. */
  image?: Image | Uint8Array;
  signal?: AbortSignal;
  /** @internal Test aid: kicks the vCPU at random moments. */
  kicks?: MachineOptions['kicks'];
}

export interface ReplayResult {
  /** Events replayed. */
  events: number;
  digests: { checked: number; final: string };
  /** Of the log, up to its last whole frame. */
  bytes: number;
  wallMs: number;
  /** null: everything matched. */
  divergence: Divergence | null;
  /** How the recorded machine ended; null when the log was cut before that. */
  ended: Ended | null;
}

export interface ReplayEvents {
  /** About ten times a second. */
  progress: [{ events: number; eventsTotal: number; digestsChecked: number }];
}

const PROGRESS_MS = 100;

/**
 * A recording being relived. `machine` is an ordinary machine without input; `result` says how it went and
 * does not reject for a divergence (`machine.ended` does).
 */
export class Replay extends EventEmitter<ReplayEvents> {
  readonly machine: Machine;
  readonly result: Promise<ReplayResult>;
  /** Resolves when the machine stands still after `stopAtEvent`, or when the replay is over. */
  readonly stopped: Promise<void>;
  readonly #info: RecordingInfo;
  readonly #begun = performance.now();
  readonly #ticker: NodeJS.Timeout;

  /** @internal */
  constructor(machine: Machine, info: RecordingInfo) {
    super();
    this.machine = machine;
    this.#info = info;
    this.#ticker = setInterval(() => this.#progress(), PROGRESS_MS);
    this.#ticker.unref();
    this.result = this.#watch();
    this.result.catch(() => {});
    this.stopped = new Promise((resolve) => {
      machine.on('state', (state) => state === 'paused' && resolve());
      machine.ended.then(
        () => resolve(),
        () => resolve(),
      );
    });
  }

  /** Ends the replay and frees the machine. Idempotent. */
  close(): Promise<void> {
    clearInterval(this.#ticker);
    return this.machine.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #progress(): void {
    if (this.machine.state === 'closed') return;
    const { events, digestsChecked } = this.machine.stats();
    this.emit('progress', { events, eventsTotal: this.#info.events, digestsChecked });
  }

  async #watch(): Promise<ReplayResult> {
    let ended: Ended | null = null;
    let divergence: Divergence | null = null;
    try {
      ended = await this.machine.ended;
    } catch (error) {
      if (!(error instanceof DivergenceError)) throw error;
      divergence = error.divergence;
    } finally {
      clearInterval(this.#ticker);
    }
    const wallMs = performance.now() - this.#begun;
    this.#progress();
    const { events, digestsChecked } = this.machine.stats();
    const digest = await this.machine.digest();
    const final = [digest.registers, digest.devices, digest.memory].join('-');
    return {
      events,
      digests: { checked: digestsChecked, final },
      bytes: this.#info.wholeBytes,
      wallMs,
      divergence,
      ended: ended?.reason === 'end-of-log' ? null : ended,
    };
  }
}

/**
 * Relives a recording. Resolves when the machine runs; await `replay.result` for the outcome. Output is
 * dropped unless `stdout` or `stderr` says where it goes. Throws ERR_LOCKSTEP_NOT_A_LOG, ..._LOG_VERSION,
 * ..._LOG_DAMAGED and ..._CPU_MODEL.
 */
export async function replay(path: string, options: ReplayOptions = {}): Promise<Replay> {
  const { stopAtEvent, liveAfterStop, image, kicks, stdout = 'ignore', stderr = 'ignore' } = options;
  const info = await guarded(() => native().logInfo(path));
  const machine = new Machine(
    {
      mode: 'replay',
      log: path,
      ...(image instanceof Uint8Array ? { image } : image && imageConfig(image)),
      stopAtEvent,
      liveAfterStop,
      ...sandboxConfig(options),
      kicksPerSecond: kicks?.perSecond,
      kickSeed: kicks?.seed,
    },
    { stdin: 'ignore', stdout, stderr },
  );
  const replaying = new Replay(machine, info);
  try {
    await machine.start(options);
  } catch (error) {
    // A divergence in the first moments is a result like any other.
    if (error instanceof DivergenceError) return replaying;
    await replaying.close();
    throw error;
  }
  return replaying;
}
