/** `--user`: what needs root's rights is opened first; then the process goes on as somebody else. */
import { execFileSync } from 'node:child_process';
import { accessSync, chownSync, closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseAddress } from '../console/address.js';
import { invalid } from '../options.js';
import { packageRoot } from '../package-root.js';
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

/** Undefined where none was asked for. Throws for what could not work later. */
export function findUser(
  flags: Pick<MachineFlags, 'user' | 'net'> & Partial<Pick<PairFlags, 'relink' | 'rejoin'>>,
): User | undefined {
  const { user: name, net, relink, rejoin } = flags;
  if (name === undefined) return undefined;
  if (process.getuid?.() !== 0) throw invalid('--user: only root can become another user');
  if (net?.unix !== undefined)
    throw invalid('--user does not go with --net unix:', 'Such a card needs no rights: start as that user.');
  if (rejoin !== undefined)
    throw invalid('--user does not go with --rejoin', 'Starting over needs the rights that are given up.');
  const listen = relink === undefined ? undefined : parseAddress(relink);
  if (listen && 'port' in listen && listen.port !== 0 && listen.port < firstOpenPort())
    throw invalid(`--relink ${relink}: --user could not listen there`, 'Take a port from 1024 on.');
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

/** What a side of a pair opens only when the other is lost, and a stream when it is whole. */
function needs({ arbiter = '', relink, output, link = '' }: Flags, startedAs: Side | undefined): Need[] {
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
  const listens = startedAs === 'shadow' ? unixPath(relink ?? link) : unixPath(relink ?? '');
  for (const path of listens)
    all.push({ path: dirname(resolve(path)), mode: write, why: 'the next shadow is waited for there' });
  return all;
}

type Side = 'primary' | 'shadow';
type Flags = Pick<LogFlags, 'log'> &
  Pick<MachineFlags, 'control'> &
  Partial<PairFlags> & {
    /** Of a stream. */
    output?: string;
  };

/** For good, with all threads and without any capability. Throws where the user lacks what comes later. */
export function become(user: User | undefined, flags: Flags, startedAs?: Side): void {
  if (!user) return;
  for (const path of made(flags, startedAs)) give(path, user);
  process.setgroups?.([]);
  process.setgid?.(user.gid);
  process.setuid?.(user.uid);
  for (const { path, mode, why } of needs(flags, startedAs)) {
    try {
      accessSync(path, mode);
    } catch {
      const can = mode === constants.R_OK ? 'read' : 'write to';
      throw invalid(
        `--user ${user.name} cannot ${can} ${path}, and ${why}`,
        `Make it ${user.name}'s: \`chown\`.`,
      );
    }
  }
}
