/** The mail server of the unplug demo, packed, and started on two hosts. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { SideProcess } from '../../control/side-process.js';
import { LockstepError } from '../../errors.js';
import { Image } from '../../image.js';
import { bytes, count } from '../report.js';
import { collect } from './children.js';
import type { CommandLine, Hosts } from './hosts.js';
import { type Mail, PORT } from './mail.js';
import type { Screen } from './screen.js';

/** The machine's own address, which moves with it. */
export const MACHINE = '10.0.2.15';
/** A shadow that is further behind takes longer to catch up than a user should wait. */
const LAG = ['--lag', '16'];
/** Far more than anybody waits for an answer: what takes longer hangs. */
export const HUNG_MS = 60_000;

export interface Pair {
  primary: SideProcess;
  shadow: SideProcess;
}

export async function packServer(mail: Mail, directory: string, screen: Screen): Promise<string> {
  const { argv, files } = mail.server;
  const image = await Image.fromProgram({ argv, files });
  const path = join(directory, 'demo.image');
  await image.write(path, { force: true });
  const { manifest } = await image.inspect();
  const replaced = manifest.kind === 'program' ? manifest.sites.replaced.length : 0;
  screen.line(
    `  ${argv.slice(0, 3).join(' ')}, as Debian ships it: ${bytes(image.bytes.length)}, ${count(replaced, 'instruction')} replaced`,
  );
  return path;
}

/** Sides of the pair, on hosts: all reach the same directory. `started` hears of each at once, to end it in any case. */
export class Sides {
  readonly #hosts: Hosts;
  readonly #directory: string;
  readonly #started: (side: SideProcess) => void;

  constructor(hosts: Hosts, directory: string, started: (side: SideProcess) => void) {
    this.#hosts = hosts;
    this.#directory = directory;
    this.#started = started;
  }

  /** `lockstep primary` or `shadow` on a host; what it makes in the directory is called `name`. */
  start(command: 'primary' | 'shadow', name: string, host: string, ...more: string[]): SideProcess {
    const at = (file: string) => join(this.#directory, file);
    // The link is a socket in the file system, which the hosts share; their networks they do not.
    const shared = ['--link', `unix:${at('link')}`, '--arbiter', `file:${at('arbiter')}`, '--force', ...LAG];
    const own = ['--console', `unix:${at(`${name}.console`)}`, '--log', at(`${name}.log`)];
    const net = ['--control', at(`${name}.control`), '--net', 'bridge:br0'];
    const { prefix } = this.#hosts.host(host);
    const side = new SideProcess(command, [...shared, ...own, ...net, ...more], prefix);
    this.#started(side);
    return side;
  }
}

/** The primary on A, its shadow on B. */
export async function startPair(sides: Sides, image: string): Promise<Pair> {
  const primary = sides.start('primary', 'primary', 'A', '--image', image);
  await primary.notice('listening');
  const shadow = sides.start('shadow', 'shadow', 'B');
  await primary.notice('armed');
  return { primary, shadow };
}

/** What the server says to whoever connects, once it does. */
export async function greeting(hosts: Hosts, over: AbortSignal): Promise<string> {
  const [command, ...rest]: CommandLine = [...hosts.host('C').prefix, 'busybox', 'nc', MACHINE, `${PORT}`];
  for (const begun = performance.now(); performance.now() - begun < HUNG_MS; await sleep(50)) {
    const { stdout } = await collect(command, rest, '', over);
    if (stdout.startsWith('220')) return stdout.trim();
  }
  throw new LockstepError('ERR_LOCKSTEP_STATE', 'the mail server does not answer');
}
