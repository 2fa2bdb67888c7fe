/**
 * `--user`: what needs root's rights is opened first; then the process goes on as somebody else, for good. A side that is
 * to start over as a shadow keeps what is open of it, /dev/kvm and the TAP interface, and needs its user to have the rest.
 */
import { execFileSync } from 'node:child_process';
import { accessSync, chownSync, closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseAddress } from '../console/address.js';
import { invalid } from '../options.js';
import { packageRoot } from '../package-root.js';
import { keepKvm } from '../probe.js';
import { partPath } from '../stream/part-file.js';
import type { LogFlags, MachineFlags, PairFlags } from './options.js';

export interface User {
  name: string;
  uid: number;
  gid: number;
}

/** What is asked of the file system after the change. */
interface Need {
  path: string;
  mode: number;
  why: string;
}

const O_PATH = 0o10000000;

/** Undefined where none was asked for. Throws for what could not work later. `listens`: at these addresses, then. */
export function findUser(
  { user: name, net }: Pick<MachineFlags, 'user' | 'net'>,
  listens: Record<string, string | undefined> = {},
): User | undefined {
  if (name === undefined) return undefined;
  if (process.getuid?.() !== 0) throw invalid('--user: only root can become another user');
  if (net?.unix !== undefined)
    throw invalid('--user does not go with --net unix:', 'Such a card needs no rights: start as that user.');
  for (const [flag, address] of Object.entries(listens)) {
    const listen = address === undefined ? undefined : parseAddress(address);
    if (listen && 'port' in listen && listen.port !== 0 && listen.port < firstOpenPort())
      throw invalid(`--${flag} ${address}: --user could not listen there`, 'Take a port from 1024 on.');
  }
  let line: string;
  try {
    line = execFileSync('getent', ['passwd', '--', name], { encoding: 'utf8', stdio: 'pipe' });
  } catch {
    throw invalid(`--user ${name}: there is no such user`);
  }
  const [, , uid, gid] = line.split(':');
  return { name, uid: Number(uid), gid: Number(gid) };
}

function firstOpenPort(): number {
  return Number(readFileSync('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'utf8'));
}

/** By the descriptor, so that nobody who may write to the directory can have another file given away. */
function give(path: string, { uid, gid }: User): void {
  let fd: number;
  try {
    fd = openSync(path, O_PATH | constants.O_NOFOLLOW);
  } catch {
    return;
  }
  try {
    const status = fstatSync(fd);
    if (status.isSocket() || (status.isFile() && status.nlink === 1))
      chownSync(`/proc/self/fd/${fd}`, uid, gid);
  } finally {
    closeSync(fd);
  }
}

const unixPath = (address: string) => (address.startsWith('unix:') ? [address.slice('unix:'.length)] : []);

/** The files and sockets that this process has made: its log, and where it listens. */
function made(flags: Flags, startedAs: Side | undefined): string[] {
  const { log, control, output, link = '', console = '' } = flags;
  const streamed = output === undefined ? [] : [output, partPath(output)];
  const sockets = startedAs === 'primary' ? [...unixPath(link), ...unixPath(console)] : unixPath(console);
  return [log, control, ...streamed, ...sockets].filter((path) => path !== undefined);
}

/** What a side of a pair opens only when the other is lost, or when it starts over, and a stream when it is whole. */
function needs(flags: Flags, startedAs: Side | undefined, again: boolean): Need[] {
  const { arbiter = '', relink, link = '', console = '', control, log, output } = flags;
  const write = constants.W_OK | constants.X_OK;
  const all: Need[] = [];
  if (output !== undefined)
    all.push({ path: dirname(resolve(output)), mode: write, why: 'the image gets its name there' });
  if (arbiter.startsWith('file:'))
    all.push({ path: resolve(arbiter.slice('file:'.length)), mode: write, why: 'claims go there' });
  if (arbiter.startsWith('etcd:')) {
    const path = fileURLToPath(new URL('dist/arbiter-etcd-worker.js', packageRoot));
    all.push({ path, mode: constants.R_OK, why: 'the thread that asks etcd is started from it' });
  }
  const listens = startedAs === 'shadow' || again ? unixPath(relink ?? link) : unixPath(relink ?? '');
  for (const path of listens)
    all.push({ path: dirname(resolve(path)), mode: write, why: 'the next shadow is waited for there' });
  for (const path of again ? [log, control, ...unixPath(console)] : [])
    if (path !== undefined)
      all.push({
        path: dirname(resolve(path)),
        mode: write,
        why: `${path} is made anew when it starts over`,
      });
  return all;
}

type Side = 'primary' | 'shadow';
type Flags = Pick<LogFlags, 'log'> &
  Pick<MachineFlags, 'control'> &
  Partial<PairFlags> & {
    /** Of a stream. */
    output?: string;
  };

/**
 * For good, with all threads and without any capability. Throws where the user lacks what comes later. `again`: this
 * process may be another side after this one.
 */
export function become(user: User | undefined, flags: Flags, startedAs?: Side, again = false): void {
  if (!user || process.getuid?.() !== 0) return;
  if (again) keepKvm();
  for (const path of made(flags, startedAs)) give(path, user);
  process.setgroups?.([]);
  process.setgid?.(user.gid);
  process.setuid?.(user.uid);
  for (const { path, mode, why } of needs(flags, startedAs, again)) {
    try {
      accessSync(path, mode);
    } catch {
      const can = mode === constants.R_OK ? 'read' : 'write to';
      throw invalid(
        `--user ${user.name} cannot ${can} ${path}, and ${why}`,
        `Make it ${user.name}'s: \`chown\`.${again ? ' Or have the side not start over: `--once`.' : ''}`,
      );
    }
  }
}
