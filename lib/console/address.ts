import type { NetConnectOpts } from 'node:net';
import { LockstepError } from '../errors.js';

/** `unix:/path`, `tcp:host:port` or `tcp:[v6]:port` as net.connect() wants it. */
export function parseAddress(address: string): NetConnectOpts {
  const unix = /^unix:(.+)$/.exec(address);
  if (unix?.[1]) return { path: unix[1] };
  const tcp = /^tcp:(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(address);
  const host = tcp?.[1] ?? tcp?.[2];
  if (host && Number(tcp?.[3]) <= 65535) return { host, port: Number(tcp?.[3]), noDelay: true };
  throw new LockstepError('ERR_LOCKSTEP_ADDRESS_INVALID', `${address} is no address`, {
    hint: 'Write unix:/path/to/socket or tcp:host:port.',
  });
}
