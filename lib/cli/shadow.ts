import { Shadow } from '../shadow.js';
import { logOptions } from './guest.js';
import type { GuestFlags, LogFlags, PairFlags } from './options.js';
import { pairOptions, runSide } from './pair.js';

/** `lockstep shadow`. */
export default async function shadow(flags: Pick<GuestFlags, 'net'> & LogFlags & PairFlags): Promise<number> {
  const side = await Shadow.create({ ...logOptions(flags), ...pairOptions(flags), net: flags.net });
  return await runSide(side, flags, 'shadow');
}
