import { Shadow } from '../shadow.js';
import { logOptions } from './guest.js';
import type { LogFlags, PairFlags } from './options.js';
import { pairOptions, runSide } from './pair.js';

/** `lockstep shadow`. */
export default async function shadow(flags: LogFlags & PairFlags): Promise<number> {
  const side = await Shadow.create({ ...logOptions(flags), ...pairOptions(flags) });
  return await runSide(side, flags);
}
