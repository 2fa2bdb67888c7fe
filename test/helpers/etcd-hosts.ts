// Three hosts on one switch, as network namespaces: one for each side of a pair, and one where etcd runs. Any of
// them can be unplugged and plugged in again. All of it is gone when it is removed, or when this process is.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { unpackDebian } from '../../scripts/unpack-debian.mjs';
import { Namespace, run } from './namespace.js';
import { patience } from './pace.js';

const PORT = 2379;

/** Debian's etcd, with its data in a directory of its own: it can be killed and started again. */
export class Etcd {
  readonly #directory = mkdtempSync(join(tmpdir(), 'lockstep-etcd-'));
  readonly #inside: (argv: string[]) => string[];
  readonly #more: string[];
  readonly #scheme: string;
  #child: ChildProcess | undefined;
  #said = '';

  /** @param more options of etcd's own; with a certificate among them it speaks TLS. */
  constructor(inside: (argv: string[]) => string[] = (argv) => argv, more: string[] = []) {
    this.#inside = inside;
    this.#more = more;
    this.#scheme = more.includes('--cert-file') ? 'https' : 'http';
    process.once('exit', () => this.#child?.kill('SIGKILL'));
  }

  /** Resolves when it serves `clients` (HOST:PORT). */
  async start(clients: string, peers = '127.0.0.1:2380'): Promise<void> {
    const url = `${this.#scheme}://${clients}`;
    const [program, ...rest] = this.#inside([
      join(unpackDebian('etcd-server'), 'usr/bin/etcd'),
      ...['--data-dir', this.#directory, '--listen-client-urls', url, '--advertise-client-urls', url],
      ...['--listen-peer-urls', `http://${peers}`, '--initial-advertise-peer-urls', `http://${peers}`],
      ...['--initial-cluster', `default=http://${peers}`, ...this.#more],
    ]) as [string, ...string[]];
    const child = spawn(program, rest, { stdio: ['ignore', 'ignore', 'pipe'] });
    this.#child = child;
    const serving = new Promise<void>((resolve, reject) => {
      child.stderr.on('data', (chunk) => {
        this.#said += chunk;
        if (/ready to serve client requests/.test(this.#said)) resolve();
      });
      child.once('close', () => reject(new Error(`etcd ended:\n${this.#said}`)));
    });
    const limit = sleep(patience(30_000), undefined, { ref: false }).then(() => {
      throw new Error(`etcd does not serve:\n${this.#said}`);
    });
    await Promise.race([serving, limit]);
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }

  async kill(): Promise<void> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    this.#said = '';
    const ended = once(child, 'close');
    child.kill('SIGKILL');
    await ended;
  }

  async remove(): Promise<void> {
    await this.kill();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

export type Host = 'primary' | 'shadow' | 'etcd';
const ADDRESSES: Record<Host, string> = { primary: '10.9.0.1', shadow: '10.9.0.2', etcd: '10.9.0.3' };

export class EtcdHosts {
  readonly etcd: Etcd;
  readonly #switch: Namespace;
  readonly #hosts: Record<Host, Namespace>;
  /** What `--arbiter` takes. */
  readonly arbiter = `etcd:${ADDRESSES.etcd}:${PORT}`;

  private constructor(hub: Namespace, hosts: Record<Host, Namespace>) {
    this.#switch = hub;
    this.#hosts = hosts;
    this.etcd = new Etcd((argv) => hosts.etcd.inside(argv));
  }

  static async make(): Promise<EtcdHosts> {
    const hub = await Namespace.make();
    const hosts = {
      primary: await Namespace.make(),
      shadow: await Namespace.make(),
      etcd: await Namespace.make(),
    };
    await run(hub.inside(['ip', 'link', 'add', 'hub', 'type', 'bridge']));
    await run(hub.inside(['ip', 'link', 'set', 'hub', 'up']));
    for (const [name, host] of Object.entries(hosts) as [Host, Namespace][]) {
      const veth = ['ip', 'link', 'add', name, 'type', 'veth', 'peer', 'name', 'card'];
      await run(hub.inside([...veth, 'netns', host.path]));
      await run(hub.inside(['ip', 'link', 'set', name, 'master', 'hub', 'up']));
      await run(host.inside(['ip', 'address', 'add', `${ADDRESSES[name]}/24`, 'dev', 'card']));
      await run(host.inside(['ip', 'link', 'set', 'card', 'up']));
    }
    const made = new EtcdHosts(hub, hosts);
    await made.startEtcd();
    return made;
  }

  /** Where either side runs. */
  get inside(): Record<'primary' | 'shadow', (argv: string[]) => string[]> {
    const { primary, shadow } = this.#hosts;
    return { primary: (argv) => primary.inside(argv), shadow: (argv) => shadow.inside(argv) };
  }

  async startEtcd(): Promise<void> {
    await this.etcd.start(`${ADDRESSES.etcd}:${PORT}`);
  }

  /** Nothing reaches this host or leaves it, and nobody is told. */
  async unplug(host: Host): Promise<void> {
    await run(this.#switch.inside(['ip', 'link', 'set', host, 'down']));
  }

  async plugIn(host: Host): Promise<void> {
    await run(this.#switch.inside(['ip', 'link', 'set', host, 'up']));
  }

  async remove(): Promise<void> {
    await this.etcd.remove();
    for (const host of [...Object.values(this.#hosts), this.#switch]) await host.remove();
  }
}
