import { existsSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { LockstepError } from './errors.js';
import type { Native } from './native.js';
import { packageRoot } from './package-root.js';

const addonPath = fileURLToPath(new URL('build/Release/lockstep.node', packageRoot));

/** The guest kernel's ELF file, built beside the addon; the packer puts it into every program's image. */
export const guestKernelPath = fileURLToPath(new URL('build/Release/guest_kernel', packageRoot));

let loaded: Native | undefined;

/** The addon, loaded on first use: importing this library, `--help` and `doctor` work without it. */
export function native(): Native {
  loaded ??= load();
  return loaded;
}

function load(): Native {
  const hint = 'Run `npm rebuild lockstep` (in a checkout: `npm run build`) and read its messages.';
  if (!existsSync(addonPath)) {
    throw new LockstepError('ERR_LOCKSTEP_NOT_BUILT', `the addon is not built: ${addonPath} is missing`, {
      hint,
    });
  }
  try {
    return createRequire(import.meta.url)(addonPath) as Native;
  } catch (cause) {
    const age = statSync(addonPath).mtime.toISOString();
    throw new LockstepError('ERR_LOCKSTEP_NOT_BUILT', `the addon built at ${age} does not load`, {
      hint,
      cause,
    });
  }
}
