import { Primary } from '../primary.js';
import { guestImage, logOptions, machineOptions } from './guest.js';
import type { GuestFlags, LogFlags, PairFlags } from './options.js';
import { pairOptions, runSide } from './pair.js';
import { Rejoin } from './rejoin.js';
import { findUser } from './user.js';

/** `lockstep primary`. */
export default async function primary(
  flags: GuestFlags & LogFlags & PairFlags & { alone?: boolean; pair?: string },
  program: string[],
): Promise<number> {
  const { link, rejoin, relink = link, console } = flags;
  const again = rejoin !== undefined;
  const user = findUser(flags, again ? { relink, console } : { relink: flags.relink });
  // As a shadow that is no longer root it can tell a bridge nothing.
  const kept = user !== undefined && again;
  const net = flags.net && { ...flags.net, learned: kept, kept };
  const image = await guestImage(program, flags, false);
  // The console is a socket's, not this process's: no terminal unless a client brings one.
  const options = { ...machineOptions({ ...flags, net }, image), ...(image.isSnapshot ? {} : { tty: {} }) };
  const pair = pairOptions(flags);
  const own = { alone: flags.alone, pairId: flags.pair };
  const side = await Primary.create(image, { ...options, ...logOptions(flags), ...pair, ...own });
  const lives = again ? new Rejoin({ ...flags, net }, [rejoin], { ...pair, relink }) : undefined;
  return await runSide(side, flags, 'primary', { user, rejoin: lives });
}
