import { Shadow } from '../shadow.js';
import { logOptions } from './guest.js';
import type { GuestFlags, LogFlags, PairFlags } from './options.js';
import { pairOptions, runSide } from './pair.js';
import { Rejoin } from './rejoin.js';

type Flags = Pick<GuestFlags, 'net' | 'sandbox'> & LogFlags & PairFlags & { once?: boolean };

/** `lockstep shadow`. */
export default async function shadow(flags: Flags): Promise<number> {
  const { net, sandbox } = flags;
  const side = await Shadow.create({ ...logOptions(flags), ...pairOptions(flags), net, sandbox });
  const { link, rejoin = link } = flags;
  const again = flags.once ? undefined : new Rejoin(flags, [...new Set([rejoin, link])]);
  return await runSide(side, flags, 'shadow', again);
}
