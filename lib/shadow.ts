import { type CableOptions, cableConfig } from './net-options.js';
import {
  invalid,
  logConfig,
  type MachineOptions,
  type OptionalLogOptions,
  type SandboxOptions,
  sandboxConfig,
} from './options.js';
import { makeSide, type PairOptions, PairSide } from './pair-side.js';
import type { Stream } from './stream/stream.js';

export type ShadowOptions = PairOptions &
  OptionalLogOptions &
  SandboxOptions & {
    /** Join no other pair than this one. Default: whichever is there. */
    pairId?: string;
    /** Where the machine's network card is joined to once this side is live; its addresses come from the primary. */
    net?: CableOptions;
    /** Of the same image, where the primary's is still on its way. */
    stream?: Stream;
    /** @internal Test aid: kicks the vCPU at random moments. */
    kicks?: MachineOptions['kicks'];
  };

/** The side of a pair that relives the primary's log as it is written, and carries on when that side is lost. */
export class Shadow extends PairSide {
  /** Makes a shadow; {@link Shadow.start} connects it to its primary, which brings the machine. */
  static async create(options: ShadowOptions): Promise<Shadow> {
    const config = {
      ...logConfig(options),
      ...options.stream?.storeConfig(),
      nic: options.net && cableConfig(options.net, invalid),
      ...sandboxConfig(options),
      kicksPerSecond: options.kicks?.perSecond,
      kickSeed: options.kicks?.seed,
    };
    return await makeSide(
      options,
      options.pairId ?? '',
      (pair) => new Shadow({ mode: 'shadow', ...config, pair }, options.stream),
    );
  }
}
