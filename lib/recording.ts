import { setImmediate } from 'node:timers/promises';
import { native } from './addon.js';
import { guarded } from './errors.js';
import { Image } from './image.js';
import { Machine } from './machine.js';
import type { NativeRecordingInfo } from './native.js';
import {
  type ConsoleOptions,
  type LogOptions,
  logConfig,
  type MachineOptions,
  machineConfig,
} from './options.js';

export type RecordOptions = MachineOptions & ConsoleOptions & LogOptions & { signal?: AbortSignal };

/** A machine that will be recorded, not started yet. @internal */
export function createRecorded(image: Image, options: RecordOptions): Machine {
  const config = { mode: 'record', ...machineConfig(image, options), ...logConfig(options) } as const;
  return new Machine(config, options);
}

/**
 * Starts a machine and records everything that enters it. Resolves when it runs; the log is whole when
 * `machine.ended` settles. Throws ERR_LOCKSTEP_LOG_EXISTS unless `force`.
 */
export async function record(image: Image, options: RecordOptions): Promise<Machine> {
  const machine = createRecorded(image, options);
  try {
    await machine.start(options);
  } catch (error) {
    await machine.close();
    throw error;
  }
  return machine;
}

/** What a log says about itself. */
export type RecordingInfo = NativeRecordingInfo;

/** One record of a log: `type` is 'event', 'digest', 'takeover' or 'end'; the rest depends on it. */
export type RecordingEvent = { type: string } & Record<string, unknown>;

const BATCH = 512;

/** A log on disk. */
export class Recording {
  readonly path: string;
  #info: RecordingInfo;

  /** Reads a log through and checks it. Throws ERR_LOCKSTEP_NOT_A_LOG and ERR_LOCKSTEP_LOG_DAMAGED. */
  static async open(path: string): Promise<Recording> {
    return new Recording(path, await guarded(() => native().logInfo(path)));
  }

  /**
   * Cuts a damaged log back to its last whole, correct frame, in place. What was cut is gone; what is left
   * replays.
   */
  static async repair(path: string): Promise<{ keptBytes: number; droppedBytes: number; events: number }> {
    return guarded(() => native().repairLog(path));
  }

  private constructor(path: string, info: RecordingInfo) {
    this.path = path;
    this.#info = info;
  }

  get info(): RecordingInfo {
    return this.#info;
  }

  /** The image in the log. Throws ERR_LOCKSTEP_NOT_AN_IMAGE when only its hash was kept. */
  image(): Promise<Image> {
    return Image.fromBytes(
      guarded(() => native().logImage(this.path)),
      this.path,
    );
  }

  /** Every record of the log, in order. */
  async *events({ signal }: { signal?: AbortSignal } = {}): AsyncGenerator<RecordingEvent> {
    const reader = guarded(() => native().openLog(this.path));
    try {
      for (;;) {
        signal?.throwIfAborted();
        const batch = guarded(() => reader.next(BATCH));
        if (batch.length === 0) return;
        yield* batch as RecordingEvent[];
        await setImmediate();
      }
    } finally {
      reader.close();
    }
  }

  /**
   * Reads the whole log again and checks every checksum. Throws ERR_LOCKSTEP_LOG_DAMAGED, naming the offset.
   * That the machine does the same again is for `replay()` to tell.
   */
  async verify(): Promise<RecordingInfo> {
    this.#info = await guarded(() => native().logInfo(this.path));
    return this.#info;
  }
}
