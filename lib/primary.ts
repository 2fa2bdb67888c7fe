import { randomBytes } from 'node:crypto';
import { isPairId } from './end-marks.js';
import type { Image } from './image.js';
import type { NativeConfig } from './native.js';
import {
  invalid,
  logConfig,
  type MachineOptions,
  machineConfig,
  type OptionalLogOptions,
} from './options.js';
import { makeSide, type PairOptions, PairSide } from './pair-side.js';
import type { Stream } from './stream/stream.js';

export type PrimaryOptions = PairOptions &
  MachineOptions &
  OptionalLogOptions & {
    /** Starts unprotected, without waiting for a shadow, which may join at any time. */
    alone?: boolean;
    /** What this pair is called at the arbiter: never used before. Default: 32 random hexadecimal digits. */
    pairId?: string;
  };

/**
 * The side of a pair that faces the world first. Its machine starts when a shadow has joined, or at once with
 * `alone`; after a failure another shadow may join while it runs.
 */
export class Primary extends PairSide {
  /** What this pair is called at the arbiter. */
  readonly pairId: string;

  /**
   * Makes the machine and listens for its shadow, which streams the same image where this side does. Others may join
   * once the image is whole.
   */
  static async create(origin: Image | Stream, options: PrimaryOptions): Promise<Primary> {
    const { pairId = randomBytes(16).toString('hex') } = options;
    if (!isPairId(pairId)) throw invalid(`'${pairId}' is no pair's id: write letters, digits, - and _`);
    const config =
      'machineConfig' in origin ? await origin.machineConfig(options) : machineConfig(origin, options);
    return await makeSide(
      options,
      pairId,
      (pair) =>
        new Primary(
          { mode: 'primary', ...config, ...logConfig(options), pair: { ...pair, alone: options.alone } },
          pairId,
          'machineConfig' in origin ? origin : undefined,
        ),
    );
  }

  private constructor(config: NativeConfig, pairId: string, stream?: Stream) {
    super(config, stream);
    this.pairId = pairId;
  }
}
