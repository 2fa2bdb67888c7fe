import { randomBytes } from 'node:crypto';
import { cpus, release } from 'node:os';
import { LockstepError } from './errors.js';
import { checkMemory } from './image/image-file.js';
import type { Image } from './image.js';
import type { NativeConfig } from './native.js';
import { type CableOptions, cableConfig, type NetOptions, netConfig } from './net-options.js';

/**
 * What a channel of the machine is joined to: a Node stream, this process's own descriptor, another
 * descriptor, or nothing.
 */
export type ChannelTarget = 'stream' | 'inherit' | 'ignore' | number;

export interface ConsoleOptions {
  /** Default 'stream': {@link Machine.stdin}. 'ignore' is an end of input at once. */
  stdin?: ChannelTarget;
  /** Default 'stream': {@link Machine.stdout}. A stream that nobody reads stops the guest. */
  stdout?: ChannelTarget;
  /** Default 'stream': {@link Machine.stderr}. */
  stderr?: ChannelTarget;
}

export interface SandboxOptions {
  /**
   * Native threads make only the system calls that they need once a machine is set up, and a flaw in them is worth
   * less to whoever finds it. Default true.
   */
  sandbox?: boolean;
}

export interface MachineOptions extends SandboxOptions {
  /** Guest memory in MiB, an even number. Default: what the image asks for. */
  memoryMiB?: number;
  /** The CPU the guest sees: 'x86-64-v2' or 'x86-64-v3'. Default: the highest this host has. */
  cpuModel?: string;
  /** What all randomness in the machine comes from: 32 bytes, or a number. Default: fresh from the host. */
  seed?: Uint8Array | number;
  /** Virtual time at boot. The host's clock is then never read. Default: the host's clock. */
  time?: Date;
  /** Which of the channels look like a terminal to the program. Default: none. */
  tty?: { stdin?: boolean; stdout?: boolean; stderr?: boolean };
  /** The terminal's size. Default 24 x 80. */
  rows?: number;
  columns?: number;
  /** Give the machine a network card. Default: none. */
  net?: NetOptions;
  /** @internal Test aid: kicks the vCPU at random moments. */
  kicks?: { perSecond: number; seed: number };
}

export interface LogOptions {
  /** The log's path. */
  log: string;
  /** Overwrite an existing log. Default false. */
  force?: boolean;
  /** Have every frame on disk before output that depends on it leaves: also a dead host loses nothing. */
  fsync?: boolean;
  /**
   * Leave the image out of the log and keep its hash: smaller, and no longer self-contained. Default: false, and true
   * where the image is a snapshot.
   */
  imageByHash?: boolean;
  /** Take a digest every so many events. Default 1,000, and memory once a second. */
  digestEvery?: number;
}

/** The file of a log, where one is optional. */
export type OptionalLogOptions = Omit<LogOptions, 'log'> & Partial<Pick<LogOptions, 'log'>>;

export function invalid(message: string, hint?: string): LockstepError {
  return new LockstepError('ERR_LOCKSTEP_INVALID_ARGUMENT', message, { hint });
}

function positive(name: string, value: number | undefined, max = Number.MAX_SAFE_INTEGER): void {
  if (value === undefined) return;
  if (!Number.isSafeInteger(value) || value < 1 || value > max) {
    throw invalid(`${name} must be a whole number from 1 to ${max}, and is ${value}`);
  }
}

function seedBytes(seed: MachineOptions['seed']): Uint8Array {
  if (seed === undefined) return randomBytes(32);
  if (typeof seed === 'number') {
    if (!Number.isSafeInteger(seed) || seed < 0) throw invalid(`seed ${seed} is no whole number from 0 on`);
    const bytes = Buffer.alloc(32);
    bytes.writeBigUInt64LE(BigInt(seed));
    return bytes;
  }
  if (seed.length !== 32) throw invalid(`a seed has 32 bytes, and this one ${seed.length}`);
  return seed;
}

/** The sandbox's share of the addon's configuration. */
export function sandboxConfig({ sandbox }: SandboxOptions): Pick<NativeConfig, 'unconfined'> {
  return { unconfined: sandbox === false };
}

const MIB = 1 << 20;

/** The recording host, for people. */
function hostText(): string {
  return `${cpus()[0]?.model.trim() ?? 'unknown CPU'}, Linux ${release()}`;
}

/** The image, or where it is. */
export function imageConfig(image: Image): Pick<NativeConfig, 'image' | 'imagePath'> {
  return image.path === undefined ? { image: image.bytes } : { imagePath: image.path };
}

/** The configuration of a machine that starts from this image. */
export function machineConfig(image: Image, options: MachineOptions): Omit<NativeConfig, 'mode'> {
  return { ...imageConfig(image), ...machineShare(image, options) };
}

/** The machine's share of the addon's configuration. */
export function machineShare(
  { isSnapshot }: Pick<Image, 'isSnapshot'>,
  options: MachineOptions,
): Omit<NativeConfig, 'mode'> {
  if (isSnapshot) return continueConfig(options);
  const { memoryMiB, cpuModel, time, tty = {}, rows = 24, columns = 80, kicks } = options;
  if (memoryMiB !== undefined) checkMemory(memoryMiB);
  positive('rows', rows, 65535);
  positive('columns', columns, 65535);
  const timeUs = time ? time.getTime() * 1000 : 0;
  if (Number.isNaN(timeUs) || timeUs < 0) throw invalid('time is no date from 1970 on');
  if (time && options.net?.ip === 'dhcp')
    throw invalid(
      'ip is dhcp, and time is fixed',
      'A server answers in real time, for which such a machine does not wait.',
    );
  const seed = seedBytes(options.seed);
  return {
    memoryBytes: memoryMiB === undefined ? undefined : memoryMiB * MIB,
    cpuModel,
    seed,
    net: options.net && netConfig(options.net, seed, invalid),
    nic: options.net && cableConfig(options.net, invalid),
    fixedTimeUs: time ? timeUs : undefined,
    ttyFlags: (tty.stdin ? 1 : 0) | (tty.stdout ? 2 : 0) | (tty.stderr ? 4 : 0),
    rows,
    columns,
    ...sandboxConfig(options),
    host: hostText(),
    kicksPerSecond: kicks?.perSecond,
    kickSeed: kicks?.seed,
  };
}

/** What a machine that goes on from a snapshot, or from another machine, may be given; all else is that one's. */
export interface ContinueOptions extends SandboxOptions {
  /**
   * What randomness comes from that the machine asks for from here on. Default: what it came from, so that machines
   * that go on from the same place get the same, keys and all.
   */
  seed?: MachineOptions['seed'];
  /** Where its network card is joined to, if it has one. Default: nowhere; addresses stay what they are. */
  net?: CableOptions;
  /** @internal */
  kicks?: MachineOptions['kicks'];
}

/** What a machine has that goes on from another, nobody chooses for it. */
export function refuseWhatItHas(given: Record<string, unknown>, from: 'another' | 'a snapshot'): void {
  const stray = Object.keys(given).find((name) => given[name] !== undefined);
  if (stray)
    throw invalid(
      `${stray} was given to a machine that goes on from ${from}`,
      'It has that already, and its guest knows it: leave the option out.',
    );
}

/** Its share of the addon's configuration. */
export function continueConfig(options: ContinueOptions & MachineOptions): Omit<NativeConfig, 'mode'> {
  const { seed, net, kicks, sandbox: _, ...others } = options;
  const { memoryMiB, cpuModel, time, tty, rows, columns } = others;
  const { mac, ip, gateway, mtu } = net ?? ({} as NetOptions);
  refuseWhatItHas({ memoryMiB, cpuModel, time, tty, rows, columns, mac, ip, gateway, mtu }, 'another');
  return {
    seed: seed === undefined ? undefined : seedBytes(seed),
    reseed: seed !== undefined,
    nic: net && cableConfig(net, invalid),
    ...sandboxConfig(options),
    host: hostText(),
    kicksPerSecond: kicks?.perSecond,
    kickSeed: kicks?.seed,
  };
}

/** The log's share of it. */
export function logConfig(options: OptionalLogOptions): Partial<NativeConfig> {
  positive('digestEvery', options.digestEvery);
  return {
    log: options.log ?? '',
    force: options.force ?? false,
    fsync: options.fsync ?? false,
    imageByHash: options.imageByHash,
    digestEvery: options.digestEvery,
  };
}
