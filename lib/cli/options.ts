import { type Command, InvalidArgumentError, Option } from 'commander';
import type { CableOptions } from '../net-options.js';

/** What addMachineOptions() defines, and --memory. */
export interface MachineFlags {
  quiet?: boolean;
  memory?: number;
  seed?: number;
  time?: Date;
  cpu?: string;
  sandbox?: boolean;
  user?: string;
  control?: string;
  net?: CableOptions;
  ip?: string;
  gateway?: string;
  mac?: string;
}

/** What addGuestOptions() defines. */
export interface GuestFlags extends MachineFlags {
  image?: string;
  file: { host: string; guest?: string }[];
  env: Record<string, string>;
  cwd?: string;
  patch: bigint[];
  leave: bigint[];
}

/** What addLogOptions() defines. */
export interface LogFlags {
  log?: string;
  force?: boolean;
  fsync?: boolean;
  imageByHash?: boolean;
  digestEvery?: number;
}

/** What addSecurityOptions() defines. */
export interface SecurityFlags {
  tls?: string;
  tlsCa?: string;
  tlsCert?: string;
  tlsKey?: string;
  insecure?: boolean;
}

/** What addEtcdKeyOptions() defines. */
export interface EtcdKeyFlags {
  etcdCa?: string;
  etcdCert?: string;
  etcdKey?: string;
}

/** What addEtcdOptions() defines. */
export interface EtcdFlags extends EtcdKeyFlags {
  etcd: string;
}

/** What addPairOptions() defines. */
export interface PairFlags extends SecurityFlags, EtcdKeyFlags {
  link: string;
  relink?: string;
  rejoin?: string;
  console: string;
  arbiter: string;
  silence?: number;
  cut?: number;
  grace?: number;
  compress?: 'auto' | 'always' | 'never';
  heartbeat?: number;
  lag?: number;
  unread?: 'forget' | 'stop';
  drop?: number;
  control?: string;
  metrics?: string;
  json?: boolean;
  quiet?: boolean;
}

/** What addPriorityOptions() defines. */
export interface PriorityFlags {
  profile?: string;
  first: string[];
  last: string[];
}

export function whole(text: string): number {
  const number = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(number))
    throw new InvalidArgumentError('Not a whole number.');
  return number;
}

/** FIRST-LAST. */
export function ports(text: string): { first: number; last: number } {
  const [, first, last] = /^(\d{1,5})-(\d{1,5})$/.exec(text) ?? [];
  if (first === undefined) throw new InvalidArgumentError('Not FIRST-LAST.');
  return { first: Number(first), last: Number(last) };
}

export function seconds(text: string): number {
  const number = Number(text);
  if (!(number >= 0.1 && number <= 86_400)) throw new InvalidArgumentError('Not from 0.1 to 86400 seconds.');
  return number;
}

function date(text: string): Date {
  const time = new Date(text);
  if (Number.isNaN(time.getTime())) throw new InvalidArgumentError('Not a time like 2026-01-31T12:00:00Z.');
  return time;
}

function addresses(text: string, before: bigint[]): bigint[] {
  if (!/^0x[0-9a-f]+$/i.test(text)) throw new InvalidArgumentError('Not an address like 0x401a2b.');
  return [...before, BigInt(text)];
}

/** HOST[:GUEST]; a host path with a colon in it needs its guest path. */
export function packedFile(text: string, before: GuestFlags['file']): GuestFlags['file'] {
  const colon = text.lastIndexOf(':');
  if (colon < 0) return [...before, { host: text }];
  const [host, guest] = [text.slice(0, colon), text.slice(colon + 1)];
  if (!host || !guest) throw new InvalidArgumentError('Not HOST or HOST:GUEST.');
  return [...before, { host, guest }];
}

/** K=V, or K alone: the caller's own value, and nothing when it has none. */
export function environment(text: string, before: Record<string, string>): Record<string, string> {
  const equals = text.indexOf('=');
  const name = equals < 0 ? text : text.slice(0, equals);
  if (!name) throw new InvalidArgumentError('Not K or K=V.');
  const value = equals < 0 ? process.env[name] : text.slice(equals + 1);
  return value === undefined ? before : { ...before, [name]: value };
}

/** tap, tap:NAME, bridge:BRIDGE[,NAME] or unix:PATH[,PEER]. */
export function network(text: string): NonNullable<GuestFlags['net']> {
  if (text === 'tap') return { tap: true };
  if (text.startsWith('tap:')) return { tap: text.slice(4) };
  if (text.startsWith('bridge:')) {
    const [bridge, tap, ...rest] = text.slice(7).split(',');
    if (rest.length === 0) return { bridge, tap };
  }
  if (text.startsWith('unix:')) return { unix: text.slice(5) };
  throw new InvalidArgumentError('Not tap, tap:NAME, bridge:BRIDGE[,NAME] or unix:PATH[,PEER].');
}

export function networkOption(what: string): Option {
  const where = 'tap[:NAME], bridge:BRIDGE[,NAME] or unix:PATH[,PEER]';
  return new Option('--net <where>', `${what} ${where}`).argParser(network);
}

function repeatable<T>(
  flags: string,
  description: string,
  parse: (text: string, before: T) => T,
  none: T,
): Option {
  return new Option(flags, `${description}; repeatable`).argParser(parse).default(none, 'none');
}

export const memoryOption = ['--memory <MiB>', 'memory of the guest (default: 256)', whole] as const;

/** In which order the parts of an image are worth fetching. */
export function addPriorityOptions(command: Command): Command {
  const add = (text: string, before: string[]): string[] => [...before, text];
  return command
    .option('--profile <file>', 'what `lockstep learn` found is needed first')
    .addOption(repeatable('--first <glob>', 'files of the guest that are needed at once', add, []))
    .addOption(repeatable('--last <glob>', 'files that can wait longest', add, []));
}

/** Which program, with what, in which machine. `machine: false`: only what an image holds. */
export function addGuestOptions(command: Command, { machine = true } = {}): Command {
  command
    .addOption(repeatable('--file <host[:guest]>', 'a file or directory the guest sees', packedFile, []))
    .addOption(repeatable('--env <k[=v]>', 'a variable of the guest', environment, {}))
    .option('--cwd <path>', "the program's working directory in the guest")
    .option(...memoryOption)
    .addOption(repeatable('--patch <address>', 'replace this instruction in any case', addresses, []))
    .addOption(repeatable('--leave <address>', 'leave this instruction as it is', addresses, []));
  if (!machine) return command;
  return addMachineOptions(
    command.option('--image <file>', 'start this image, or go on from this snapshot, instead of a program'),
  );
}

/** In which machine, whatever it starts from. */
export function addMachineOptions(command: Command): Command {
  return addHardwareOptions(command)
    .addOption(controlOption())
    .addOption(userOption())
    .addOption(sandboxOption());
}

/** What the guest sees of it. */
export function addHardwareOptions(command: Command): Command {
  return command
    .option('--seed <n>', 'where all randomness comes from (default: the host)', whole)
    .option('--time <iso>', 'virtual time at boot; the host clock is then never read', date)
    .option('--cpu <model>', 'CPU the guest sees: x86-64-v2 or x86-64-v3 (default: the highest here)')
    .addOption(networkOption('a network card, joined to'))
    .option('--ip <address/prefix>', "the card's address, or dhcp (default: 10.0.2.15/24)")
    .addOption(gatewayOption())
    .addOption(macOption());
}

export function mirrorOption(): Option {
  return repeatable(
    '--mirror <address>',
    'another address of the same manifest',
    (text, before: string[]) => [...before, text],
    [],
  );
}

export function gatewayOption(): Option {
  return new Option(
    '--gateway <address>',
    'the way out, and the host on a new TAP (default: the second of its network)',
  );
}

export function macOption(): Option {
  return new Option('--mac <address>', "the card's hardware address (default: made from the seed)");
}

export function controlOption(): Option {
  return new Option(
    '--control <socket>',
    'listen here for `lockstep cp` and `lockstep snapshot` (and, of a pair, `lockstep status`)',
  );
}

export function sandboxOption(): Option {
  return new Option('--no-sandbox', "leave the machine's threads all system calls, not only those they need");
}

export function userOption(): Option {
  return new Option(
    '--user <name>',
    'go on as this user once all is open: KVM, the network card, log, sockets (root)',
  );
}

export function addLogFileOptions(command: Command, { required }: { required: boolean }): Command {
  const flag = '--log <file>';
  if (required) command.requiredOption(flag, 'the recording');
  else command.option(flag, "this side's recording");
  return command
    .option('--force', 'overwrite an existing log')
    .option('--fsync', 'have everything on disk before output leaves');
}

/** Of a log that starts here: a shadow's takes these from its primary. */
export function addLogOptions(command: Command, { required }: { required: boolean }): Command {
  return addLogFileOptions(command, { required })
    .option('--image-by-hash', "leave the image out of the log (a primary's keeps it)")
    .option('--digest-every <n>', 'take a digest every so many events', whole);
}

export function addSecurityOptions(command: Command): Command {
  return command
    .option('--tls <directory>', 'speak TLS at tcp: addresses, with keys made by `lockstep keys`')
    .option('--tls-ca <file>', 'in place of ca.pem there')
    .option('--tls-cert <file>', 'in place of side.pem (console: console.pem) there')
    .option('--tls-key <file>', 'in place of side.key (console: console.key) there')
    .option('--insecure', 'allow plain TCP to other hosts');
}

function addEtcdKeyOptions(command: Command): Command {
  return command
    .option('--etcd-ca <file>', 'speak TLS to etcd, whose certificate this one signed (user: ETCDCTL_USER)')
    .option('--etcd-cert <file>', 'the certificate to show to etcd')
    .option('--etcd-key <file>', 'its key');
}

/** Of what stands in etcd about hosts and machines. */
export function addEtcdOptions(command: Command): Command {
  command.requiredOption('--etcd <servers>', 'where hosts and machines are known: HOST:PORT[,HOST:PORT...]');
  return addEtcdKeyOptions(command);
}

export function addPairOptions(command: Command): Command {
  addSecurityOptions(command)
    .requiredOption('--link <address>', 'between the two sides: unix:/path or tcp:host:port')
    .option(
      '--relink <address>',
      'where a side that went live waits for its next shadow (default: a Unix --link)',
    )
    .option(
      '--rejoin <address>',
      'start over as a shadow of the live side there, once out of the pair (default: a shadow does, at --link)',
    )
    .requiredOption('--console <address>', 'where this side listens for console clients')
    .requiredOption('--arbiter <address>', 'reached by both sides: file:DIRECTORY or etcd:HOST:PORT,...');
  return addEtcdKeyOptions(command)
    .option('--silence <ms>', 'take a side for dead that is silent this long (default: 1000)', whole)
    .option(
      '--cut <ms>',
      'take a side for cut off whose host acknowledges nothing at a tcp: link this long (default: 200)',
      whole,
    )
    .option(
      '--grace <ms>',
      'wait for a tcp: link that was reset to come back before going on without it; 0: never (default: 40)',
      whole,
    )
    .addOption(
      new Option(
        '--compress <when>',
        'compress what is sent to the other side; auto: what has to wait for a tcp: link off the loopback (default: auto)',
      ).choices(['auto', 'always', 'never']),
    )
    .option('--heartbeat <ms>', 'how often a side says that it lives (default: 50)', whole)
    .option(
      '--lag <KiB>',
      'slow the primary down when the shadow is this much log, or half a second, behind; the same on both sides (default: 16384)',
      whole,
    )
    .addOption(
      new Option(
        '--unread <what>',
        'what to do with 1 MiB of output and no console client: forget the oldest, or stop the guest (default: forget with --net)',
      ).choices(['forget', 'stop']),
    )
    .option('--drop <ms>', 'go on without a shadow that is this far behind (default: 10000)', whole)
    .option('--metrics <address>', 'serve Prometheus at HOST:PORT, or at a port of the loopback')
    .option('--json', 'print notices as JSON lines on stderr');
}
