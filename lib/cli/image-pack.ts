import { guestImage } from './guest.js';
import type { GuestFlags } from './options.js';
import { bytes, count, say } from './report.js';

/** `lockstep image pack`. */
export default async function pack(
  flags: GuestFlags & { output: string; force?: boolean },
  program: string[],
): Promise<number> {
  const image = await guestImage(program, flags, false);
  await image.write(flags.output, { force: flags.force });
  const { manifest, sha256 } = await image.inspect();
  const replaced =
    manifest.kind === 'program' ? `, ${count(manifest.sites.replaced.length, 'instruction')} replaced` : '';
  say(flags, `${flags.output}: ${bytes(image.bytes.length)}${replaced}, sha256 ${sha256}`);
  return 0;
}
