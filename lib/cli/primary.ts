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
  const user = findUser(flags);
  const image = await guestImage(program, flags, false);
  // The console is a socket's, not this process's: no terminal unless a client brings one.
  const options = { ...machineOptions(flags, image), ...(image.isSnapshot ? {} : { tty: {} }) };
  const pair = { ...pairOptions(flags), alone: flags.alone, pairId: flags.pair };
  const side = await Primary.create(image, { ...options, ...logOptions(flags), ...pair });
  const { link, rejoin, relink = link } = flags;
  const again = rejoin === undefined ? undefined : new Rejoin({ ...flags, relink }, [rejoin]);
  return await runSide(side, flags, 'primary', { user, rejoin: again });
}
