import { Shadow } from '../shadow.js';
import { logOptions } from './guest.js';
import type { GuestFlags, LogFlags, PairFlags } from './options.js';
import { pairOptions, runSide } from './pair.js';
import { Rejoin } from './rejoin.js';
import { findUser } from './user.js';

type Flags = Pick<GuestFlags, 'net' | 'sandbox' | 'user'> &
  LogFlags &
  PairFlags & { once?: boolean; pair?: string };

/** `lockstep shadow`. */
export default async function shadow(flags: Flags): Promise<number> {
  const { sandbox, once, link, rejoin = link, relink, console } = flags;
  const user = findUser(flags, { relink, console: once ? undefined : console });
  // Only root can tell a bridge anything once this side is live.
  const net = flags.net && { ...flags.net, learned: user !== undefined, kept: user && !once };
  const pair = pairOptions(flags);
  const side = await Shadow.create({ ...logOptions(flags), ...pair, pairId: flags.pair, net, sandbox });
  const again = once ? undefined : new Rejoin({ ...flags, net }, [...new Set([rejoin, link])], pair);
  return await runSide(side, flags, 'shadow', { user, rejoin: again });
}
