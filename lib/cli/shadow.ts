import { LockstepError } from '../errors.js';
import { Shadow } from '../shadow.js';
import { serveControl } from './control-server.js';
import { logOptions } from './guest.js';
import type { GuestFlags, LogFlags, PairFlags } from './options.js';
import { pairOptions, runSide } from './pair.js';

/** What a machine is asked is an input of its own, and a shadow's machine gets its primary's. */
function whileShadow(side: Shadow): LockstepError | undefined {
  if (side.status()?.live) return undefined;
  return new LockstepError('ERR_LOCKSTEP_STATE', 'this side is a shadow, and answers only once it is live', {
    hint: "Ask at the primary's --control.",
  });
}

/** `lockstep shadow`. */
export default async function shadow(
  flags: Pick<GuestFlags, 'net' | 'control'> & LogFlags & PairFlags,
): Promise<number> {
  const side = await Shadow.create({ ...logOptions(flags), ...pairOptions(flags), net: flags.net });
  const { control: path } = flags;
  const control =
    path === undefined ? undefined : await serveControl(path, side.machine, () => whileShadow(side));
  try {
    return await runSide(side, flags);
  } finally {
    await control?.close();
  }
}
