import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants } from 'node:fs';
import { LockstepError } from '../../errors.js';

/** Their addresses are this network's; the machine's own is 10.0.2.15. */
const PREFIX = '10.0.2.';
const TOOLS = ['ip', 'unshare', 'nsenter', 'setpriv'];

/** What keeps hosts from being made here, in a few words; undefined: nothing. */
export function whyNoHosts(): string | undefined {
  if (process.getuid?.() !== 0) return 'this user is not root';
  for (const tool of TOOLS)
    if (spawnSync(tool, ['-V'], { stdio: 'ignore' }).error) return `there is no program '${tool}'`;
  try {
    accessSync('/dev/net/tun', constants.R_OK | constants.W_OK);
  } catch {
    return 'there is no /dev/net/tun to use';
  }
  const script =
    'ip link add name lan type bridge && ip link add name a type veth peer name b && ip tuntap add name tap mode tap';
  const { status } = spawnSync('unshare', ['--net', 'sh', '-c', script], { stdio: 'ignore' });
  return status === 0 ? undefined : 'this system makes no network namespaces, bridges or TAP interfaces';
}

/** A program and its arguments. */
export type CommandLine = [string, ...string[]];

export interface Host {
  name: string;
  address: string;
  /** What a command line begins with to run there, and to end when this process does. */
  prefix: CommandLine;
}

/** A network namespace lives as long as a process in it: this one waits for the end of its input, and so for ours. */
class Namespace {
  readonly #holder: ChildProcess;

  private constructor(holder: ChildProcess) {
    this.#holder = holder;
  }

  static async make(): Promise<Namespace> {
    const holder = spawn('unshare', ['--net', 'cat'], { stdio: ['pipe', 'pipe', 'inherit'], detached: true });
    const made = new Namespace(holder);
    // It echoes once it is where it belongs.
    holder.stdin?.write('\n');
    await once(holder.stdout as NodeJS.ReadableStream, 'data');
    return made;
  }

  get pid(): number {
    return this.#holder.pid as number;
  }

  get prefix(): CommandLine {
    return ['setpriv', '--pdeathsig', 'KILL', 'nsenter', `--net=/proc/${this.pid}/ns/net`];
  }

  ip(lines: string[]): void {
    const [command, ...rest]: CommandLine = [...this.prefix, 'ip', '-batch', '-'];
    const { status, stderr } = spawnSync(command, rest, { input: `${lines.join('\n')}\n`, encoding: 'utf8' });
    if (status !== 0)
      throw new LockstepError('ERR_LOCKSTEP_SYSTEM', `the hosts cannot be joined: ${stderr.trim()}`);
  }

  async close(): Promise<void> {
    if (this.#holder.exitCode !== null || this.#holder.signalCode !== null) return;
    const gone = once(this.#holder, 'exit');
    this.#holder.stdin?.end();
    await gone;
  }
}

/** Hosts on this one: network namespaces, each with an address, and each with a cable to the same switch. */
export class Hosts {
  readonly #hosts: Host[] = [];
  readonly #namespaces: Namespace[] = [];
  #switch: ChildProcess | undefined;

  /**
   * The names become those of the switch's ports. Hosts in `bridged` have a bridge `br0` to which machines can be
   * joined, and which has the host's address. What is sent to one in `heard` comes to all.
   */
  static async make(names: string[], bridged: string[], heard: string[] = []): Promise<Hosts> {
    const hosts = new Hosts();
    try {
      await hosts.#make(names, bridged, heard);
      return hosts;
    } catch (error) {
      await hosts.close();
      throw error;
    }
  }

  async #make(names: string[], bridged: string[], heard: string[]): Promise<void> {
    const join = await this.#namespace();
    join.ip(['link add name lan type bridge', 'link set dev lan up']);
    for (const [index, name] of names.entries()) {
      const host = await this.#namespace();
      const port = name.toLowerCase();
      join.ip([
        `link add name ${port} type veth peer name eth0 netns ${host.pid}`,
        `link set dev ${port} master lan`,
        `link set dev ${port} up`,
        ...(heard.includes(name) ? [`link set dev ${port} type bridge_slave learning off`] : []),
      ]);
      const address = `${PREFIX}${index + 101}`;
      const bridge = ['link add name br0 type bridge', 'link set dev eth0 master br0', 'link set dev br0 up'];
      const bridges = bridged.includes(name);
      host.ip([
        ...(bridges ? bridge : []),
        `address add ${address}/24 dev ${bridges ? 'br0' : 'eth0'}`,
        'link set dev lo up',
        'link set dev eth0 up',
      ]);
      this.#hosts.push({ name, address, prefix: host.prefix });
    }
    // Stands ready: pulling a cable must not wait for a program to start.
    const [command, ...rest]: CommandLine = [...join.prefix, 'ip', '-batch', '-'];
    this.#switch = spawn(command, rest, { stdio: ['pipe', 'inherit', 'inherit'], detached: true });
    this.#switch.stdin?.on('error', () => {});
  }

  host(name: string): Host {
    const found = this.#hosts.find((host) => host.name === name);
    if (!found) throw new LockstepError('ERR_LOCKSTEP_INTERNAL', `there is no host ${name}`);
    return found;
  }

  /** Pulls the cable of a host: its port at the switch goes down. */
  unplug(name: string): void {
    this.#setPort(name, 'down');
  }

  /** Puts it in again. */
  plug(name: string): void {
    this.#setPort(name, 'up');
  }

  #setPort(name: string, state: 'up' | 'down'): void {
    this.#switch?.stdin?.write(`link set dev ${name.toLowerCase()} ${state}\n`);
  }

  /** Whoever still runs in one of them keeps it: end those first. */
  async close(): Promise<void> {
    this.#switch?.stdin?.end();
    await Promise.all(this.#namespaces.map((namespace) => namespace.close()));
  }

  async #namespace(): Promise<Namespace> {
    const namespace = await Namespace.make();
    this.#namespaces.push(namespace);
    return namespace;
  }
}
