/** The mail server and the client of the unplug demo: where Debian's files are, and how they are started. */
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

const PYTHON = '/usr/bin/python3';
const MODULES = '/usr/lib/python3/dist-packages';
/** Of Debian's python3-aiosmtpd, and of the packages that it needs. */
const PACKAGES = {
  'python3-aiosmtpd': 'aiosmtpd',
  'python3-attr': 'attr',
  'python3-pkg-resources': 'pkg_resources',
  'python3-public': 'public',
};
export const MAILBOX = '/mail';
export const PORT = 25;

export interface Mail {
  server: { argv: string[]; files: { host: string; guest: string }[] };
  /** postfix's smtp-source, and where its libraries are. */
  client: { path: string; libraries: string };
}

/** Where `npm run demo` unpacks Debian packages instead of installing them (scripts/unpack-debian.mjs). */
function unpacked(name: string): string {
  return join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'lockstep/debian', name);
}

/** A file of a Debian package: as it was unpacked, or installed. */
function fileOf(name: string, path: string): string | undefined {
  return [join(unpacked(name), path), path].find((place) => existsSync(place));
}

/** Server and client, or what of them is missing. */
export function findMail(): Mail | string {
  if (!existsSync(PYTHON)) return `there is no ${PYTHON}`;
  const files: Mail['server']['files'] = [];
  for (const [name, module] of Object.entries(PACKAGES)) {
    const guest = join(MODULES, module);
    const host = fileOf(name, guest);
    if (host === undefined) return `${name} is neither unpacked nor installed`;
    files.push({ host, guest });
  }
  const path = fileOf('postfix', '/usr/sbin/smtp-source');
  const libraries = fileOf('postfix', '/usr/lib/postfix');
  if (path === undefined || libraries === undefined) return 'postfix is neither unpacked nor installed';
  // -n: it is root there, and stays it.
  const argv = [PYTHON, '-m', 'aiosmtpd', '-n', '-l', `0.0.0.0:${PORT}`];
  return {
    server: { argv: [...argv, '-c', 'aiosmtpd.handlers.Mailbox', MAILBOX], files },
    client: { path, libraries },
  };
}
