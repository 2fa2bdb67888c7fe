import { type KeyHolder, readKeys, type SecurityOptions } from '../tls.js';
import type { SecurityFlags } from './options.js';

/** What the options of {@link SecurityFlags} mean. */
export function securityOptions(flags: SecurityFlags, holder: KeyHolder): SecurityOptions {
  const { tls: directory, tlsCa: ca, tlsCert: cert, tlsKey: key, insecure } = flags;
  const wanted = [directory, ca, cert, key].some((given) => given !== undefined);
  return { tls: wanted ? readKeys(directory, holder, { ca, cert, key }) : undefined, insecure };
}
