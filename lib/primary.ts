import { randomBytes } from 'node:crypto';
import type { Image } from './image.js';
import { logConfig, type MachineOptions, machineConfig, type OptionalLogOptions } from './options.js';
import { type PairOptions, PairSide, pairConfig } from './pair-side.js';

export type PrimaryOptions = PairOptions & MachineOptions & OptionalLogOptions;

/** The side of a pair that faces the world first. Its machine starts when a shadow has joined. */
export class Primary extends PairSide {
  /** 32 random hexadecimal digits that name this pair at the arbiter. */
  readonly pairId: string;

  /** Makes the machine and listens for its shadow. */
  static async create(image: Image, options: PrimaryOptions): Promise<Primary> {
    return new Primary(image, options, randomBytes(16).toString('hex'));
  }

  private constructor(image: Image, options: PrimaryOptions, pairId: string) {
    super({
      mode: 'primary',
      ...machineConfig(image, options),
      ...logConfig(options),
      pair: pairConfig(options, pairId),
    });
    this.pairId = pairId;
  }
}
