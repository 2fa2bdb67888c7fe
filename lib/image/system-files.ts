/**
 * /etc as far as servers read it: the same small files in every guest, whatever the host has.
 * A file given by --file takes precedence. There is no /etc/localtime: guests live in UTC.
 */
import { type FileEntry, S_IFDIR, S_IFREG } from './file-entries.js';

/** Users that Debian's servers change to, with Debian's ids where those are fixed. */
const USERS: readonly [name: string, id: number, home: string][] = [
  ['root', 0, '/root'],
  ['daemon', 1, '/usr/sbin'],
  ['www-data', 33, '/var/www'],
  ['redis', 101, '/var/lib/redis'],
  ['memcache', 102, '/nonexistent'],
  ['nobody', 65534, '/nonexistent'],
];

const SERVICES: readonly [name: string, port: number, protocol: 'tcp' | 'udp'][] = [
  ['ssh', 22, 'tcp'],
  ['smtp', 25, 'tcp'],
  ['domain', 53, 'tcp'],
  ['domain', 53, 'udp'],
  ['http', 80, 'tcp'],
  ['ntp', 123, 'udp'],
  ['imap2', 143, 'tcp'],
  ['https', 443, 'tcp'],
  ['postgresql', 5432, 'tcp'],
  ['redis', 6379, 'tcp'],
  ['http-alt', 8080, 'tcp'],
  ['memcached', 11211, 'tcp'],
];

const lines = (list: readonly string[]): string => list.map((line) => `${line}\n`).join('');
const groupOf = (name: string): string => (name === 'nobody' ? 'nogroup' : name);

const FILES: Readonly<Record<string, string>> = {
  '/etc/passwd': lines(
    USERS.map(([name, id, home]) => {
      const shell = id === 0 ? '/bin/sh' : '/usr/sbin/nologin';
      return `${name}:x:${id}:${id}:${name}:${home}:${shell}`;
    }),
  ),
  '/etc/group': lines([...USERS.map(([name, id]) => `${groupOf(name)}:x:${id}:`), 'tty:x:5:', 'adm:x:4:']),
  '/etc/nsswitch.conf': lines(['passwd: files', 'group: files', 'hosts: files dns', 'services: files']),
  '/etc/hosts': lines(['127.0.0.1 localhost', '::1 localhost ip6-localhost', '127.0.1.1 lockstep']),
  '/etc/hostname': 'lockstep\n',
  '/etc/protocols': lines(['ip 0 IP', 'icmp 1 ICMP', 'tcp 6 TCP', 'udp 17 UDP', 'ipv6 41 IPv6']),
  '/etc/services': lines(SERVICES.map(([name, port, protocol]) => `${name} ${port}/${protocol}`)),
};

const DIRECTORIES: readonly [path: string, permissions: number][] = [
  ['/run', 0o755],
  ['/var/log', 0o755],
  ['/var/tmp', 0o1777],
];

/** What every program's image holds beside the program. */
export function systemFiles(): FileEntry[] {
  return [
    ...Object.entries(FILES).map(([path, text]) => ({
      path,
      mode: S_IFREG | 0o644,
      data: Buffer.from(text),
    })),
    ...DIRECTORIES.map(([path, mode]) => ({ path, mode: S_IFDIR | mode, data: new Uint8Array(0) })),
  ];
}
