import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { native } from './addon.js';
import { parseAddress } from './console/address.js';
import { guarded, LockstepError } from './errors.js';
import { invalid } from './options.js';

/**
 * PEM texts: the authority whose certificates are trusted, and a certificate of its own with its key. With it
 * all TCP connections speak TLS 1.3, and both ends show a certificate. {@link makeKeys} makes them.
 */
export interface TlsOptions {
  ca: string;
  cert: string;
  key: string;
}

export interface SecurityOptions {
  /** Without it TCP addresses must be on the loopback. */
  tls?: TlsOptions;
  /** Allow plain TCP everywhere: where nobody else can reach the network. */
  insecure?: boolean;
}

/** Who a certificate is for: a primary or shadow, or a console client, which no side takes for its peer. */
export type KeyHolder = 'side' | 'console';

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw invalid(`${path} cannot be read: ${(cause as Error).message}`, 'Make keys by `lockstep keys DIR`.');
  }
}

/** Reads what {@link makeKeys} wrote. */
export function readKeys(
  directory: string | undefined,
  holder: KeyHolder,
  files: { ca?: string; cert?: string; key?: string } = {},
): TlsOptions {
  const path = (given: string | undefined, name: string) => {
    if (given === undefined && directory === undefined) throw invalid(`TLS wants ${name} too`);
    return given ?? join(directory as string, name);
  };
  return {
    ca: read(path(files.ca, 'ca.pem')),
    cert: read(path(files.cert, `${holder}.pem`)),
    key: read(path(files.key, `${holder}.key`)),
  };
}

/**
 * Makes an authority and what it signs, in `directory`: `side.pem` and `.key` for both sides of a pair,
 * `console.pem` and `.key` for console clients, `ca.pem` for all, and `ca.key`, which nobody needs to have. Valid
 * for `days`, default ten years. Mode 0600; never overwrites without `force`.
 */
export function makeKeys(directory: string, options: { days?: number; force?: boolean } = {}): void {
  const { days = 3650, force = false } = options;
  if (!(Number.isInteger(days) && days >= 0 && days <= 36_500)) {
    throw invalid(`days (${days}) must be from 0 to 36,500`);
  }
  const files = guarded(() => native().tlsKeys(days));
  const taken = force ? undefined : Object.keys(files).find((name) => existsSync(join(directory, name)));
  if (taken !== undefined) {
    throw new LockstepError('ERR_LOCKSTEP_KEYS_EXIST', `${join(directory, taken)} exists`, {
      hint: 'Whoever has its certificates would be locked out. --force overwrites.',
    });
  }
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  for (const [name, contents] of Object.entries(files)) {
    writeFileSync(join(directory, name), contents, { mode: 0o600, flag: force ? 'w' : 'wx' });
  }
}

/** Throws where a console client would speak plainly to another host. @internal */
export function checkSecure(address: string, { tls, insecure }: SecurityOptions): void {
  const where = parseAddress(address);
  if (tls || insecure || !('host' in where) || /^(127\.|::1$|localhost$)/.test(where.host ?? '')) return;
  throw new LockstepError(
    'ERR_LOCKSTEP_INSECURE_LINK',
    `${address} is not on the loopback, and would be neither secret nor safe`,
    { hint: 'Give --tls DIR, with keys made by `lockstep keys DIR`, or --insecure.' },
  );
}
