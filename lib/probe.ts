import { native } from './addon.js';
import { guarded } from './errors.js';
import type { NativeProbe } from './native.js';

/** What this host's KVM can do, found by trying. */
export type HostProbe = NativeProbe;

/** Keeps /dev/kvm open for machines that are made when this process may not open it any more. */
export function keepKvm(): void {
  guarded(() => native().keepKvm());
}

/** Looks at /dev/kvm. Never throws for what the host lacks: `errorCode` and `hint` say it. */
export async function probe(): Promise<HostProbe> {
  return guarded(() => native().probe());
}
