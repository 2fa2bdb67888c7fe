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
  const user = findUser(flags);
  const { sandbox } = flags;
  // Only root can tell a bridge anything once this side is live.
  const net = flags.net && { ...flags.net, learned: user !== undefined };
  const side = await Shadow.create({
    ...logOptions(flags),
    ...pairOptions(flags),
    pairId: flags.pair,
    net,
    sandbox,
  });
  const { link, rejoin = link } = flags;
  // Another life would want the rights that were given up.
  const ends = flags.once || user !== undefined;
  const again = ends ? undefined : new Rejoin(flags, [...new Set([rejoin, link])]);
  return await runSide(side, flags, 'shadow', { user, rejoin: again });
}
