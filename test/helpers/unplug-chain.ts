/**
 * A redis-server on a network of four hosts: its machine on A and B by turns, its clients on C, etcd on D. One cable
 * leads to each host, and carries all of it: the pair's link (TLS), the machine's network, the way to etcd. Either side
 * is unplugged again and again, and has a successor on the same host each time, while the clients keep their connections.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { type CommandLine, Hosts } from '../../lib/cli/demo/hosts.js';
import { ask } from '../../lib/control/control-client.js';
import { monotonicUs } from '../../lib/events.js';
import { makeKeys } from '../../lib/tls.js';
import { lockstep, root } from './command.js';
import { Etcd } from './etcd-hosts.js';
import { patience } from './pace.js';
import { SideChild, type SideNotice } from './pair-child.js';
import { ADDRESS } from './plug.js';
import type { ClientsReport, PauseReport } from './redis-clients.js';
import type { ClientsCommand, ClientsJob } from './redis-clients-child.js';
import { redisServer } from './redis-server.js';

/** Its process is killed; its cable is pulled, and put in again when the other side has gone on; both. */
export const KINDS = ['kill', 'cut', 'both'] as const;
export type Kind = (typeof KINDS)[number];
/** Who faces the world, or who stands by. */
export const VICTIMS = ['primary', 'shadow'] as const;
export type Victim = (typeof VICTIMS)[number];

export interface Unplug {
  kind: Kind;
  victim: Victim;
  /** How long the clients work before. */
  beforeMs: number;
}

const PARTS = ['suspected', 'claim-won', 'live', 'first-output'] as const;
type Part = (typeof PARTS)[number];

export interface Pause extends PauseReport {
  /** From the failure to when the survivor suspected it, won, had caught up, and its first output left. */
  partsMs: Partial<Record<Part, number>>;
  /** Why the survivor suspected the other side. */
  suspicion: string;
}

export interface Protection {
  /** From the start of the next shadow's process to when it stood by, and how long the guest stood still for it. */
  joinMs: number;
  guestPauseMs: number;
}

export type ChainReport = Pause & Protection;

export interface ChainSettings {
  directory: string;
  seed: number;
  clients: number;
  thinkMsMax: number;
  /** What decides; etcd if not given. */
  arbiter?: 'etcd' | 'file';
  /** The switch between the hosts floods what is sent to A or B: a shadow hears what is sent to its primary. */
  heard?: boolean;
  /** More options of every side. */
  options?: string[];
}

/** Far more than anything here takes. */
const HUNG_MS = patience(60_000);
const LINK_PORT = 7000;
const ETCD_PORT = 2379;

/** Rejects when it takes too long; what is waited for is named. */
async function inTime<T>(what: string, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`in vain: ${what}`)), HUNG_MS);
  });
  return await Promise.race([work, late]).finally(() => clearTimeout(timer));
}

/** The clients, on their host. */
class Clients {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor(job: ClientsJob, prefix: CommandLine) {
    const script = join(root, 'test/helpers/redis-clients-child.ts');
    const [program, ...rest] = [...prefix, process.execPath, '--import=tsx', script, JSON.stringify(job)] as [
      string,
      ...string[],
    ];
    this.#child = spawn(program, rest, { stdio: ['pipe', 'pipe', 'inherit'], cwd: root });
    this.#child.stdin?.on('error', () => {});
    const lines: Interface = createInterface({ input: this.#child.stdout as NodeJS.ReadableStream });
    this.#lines = lines[Symbol.asyncIterator]();
  }

  async answer<T>(what: string): Promise<T> {
    const { value, done } = await inTime(`the clients' ${what}`, this.#lines.next());
    if (done) throw new Error('the clients are gone');
    return JSON.parse(value as string) as T;
  }

  ask<T>(command: ClientsCommand): Promise<T> {
    this.#child.stdin?.write(`${JSON.stringify(command)}\n`);
    return this.answer(command.do);
  }

  async end(): Promise<void> {
    this.#child.kill('SIGKILL');
    if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, 'close');
  }
}

export class UnplugChain {
  readonly #settings: ChainSettings;
  readonly #hosts: Hosts;
  readonly #etcd: Etcd;
  /** All that ever were, and where. */
  readonly #sides: { side: SideChild; host: string; log: string; control: string }[] = [];
  #clients: Clients | undefined;
  #live: SideChild | undefined;
  #shadow: SideChild | undefined;
  #generation = 1;

  private constructor(settings: ChainSettings, hosts: Hosts) {
    this.#settings = settings;
    this.#hosts = hosts;
    this.#etcd = new Etcd((argv) => [...hosts.host('D').prefix, ...argv]);
  }

  static async start(settings: ChainSettings): Promise<UnplugChain> {
    const hosts = await Hosts.make(['A', 'B', 'C', 'D'], ['A', 'B'], settings.heard ? ['A', 'B'] : []);
    const chain = new UnplugChain(settings, hosts);
    try {
      await chain.#start();
      return chain;
    } catch (error) {
      await chain.end();
      throw error;
    }
  }

  async #start(): Promise<void> {
    const { directory, clients, thinkMsMax, seed } = this.#settings;
    makeKeys(join(directory, 'keys'), {});
    await this.#etcd.start(`${this.#hosts.host('D').address}:${ETCD_PORT}`);
    this.#live = this.#spawn('primary', 'A', 'A', ['--', ...redisServer(directory)]);
    await this.#notice(this.#live, 'listening');
    this.#shadow = this.#spawn('shadow', 'B', 'A');
    // Its own word first: if it ends instead, it says why.
    await this.#notice(this.#shadow, 'armed');
    await this.#notice(this.#live, 'armed');
    this.#clients = new Clients({ host: ADDRESS, clients, thinkMsMax, seed }, this.#hosts.host('C').prefix);
    await this.#clients.answer('start');
  }

  /** Each side listens at its own host, as soon as it is live; `peer` is where the link is now. */
  #spawn(name: 'primary' | 'shadow', host: string, peer: string, more: string[] = []): SideChild {
    const link = (at: string) => `tcp:${this.#hosts.host(at).address}:${LINK_PORT}`;
    const number = this.#sides.length;
    const at = (file: string) => join(this.#settings.directory, file);
    const log = at(`${number}.log`);
    const control = at(`${number}.control`);
    const etcd = `etcd:${this.#hosts.host('D').address}:${ETCD_PORT}`;
    const arbiter = this.#settings.arbiter === 'file' ? `file:${at('arbiter')}` : etcd;
    const options = [
      ...['--link', link(peer), '--relink', link(host), '--tls', at('keys')],
      ...['--arbiter', arbiter, '--control', control],
      ...['--console', `unix:${at(`${number}.console`)}`, '--log', log, '--net', 'bridge:br0', '--json'],
      ...(name === 'shadow' ? ['--once'] : []),
      ...(this.#settings.options ?? []),
    ];
    const side = new SideChild(name, [lockstep, name, ...options, ...more], {}, (argv) => [
      ...this.#hosts.host(host).prefix,
      ...argv,
    ]);
    this.#sides.push({ side, host, log, control });
    return side;
  }

  /** The n-th of this name that this side gives, from 1 on. */
  async #notice(side: SideChild, name: string, count = 1): Promise<SideNotice> {
    return await inTime(`${side.name}: ${name}`, side.until(name, count)).catch((error: Error) => {
      throw new Error(`${error.message}\n${this.story()}`);
    });
  }

  /** Ends when the machine has a shadow again. Throws whatever is wrong. */
  async unplug({ kind, victim, beforeMs }: Unplug): Promise<ChainReport> {
    const [lost, survivor] = (
      victim === 'primary' ? [this.#live, this.#shadow] : [this.#shadow, this.#live]
    ) as [SideChild, SideChild];
    const { host } = this.#place(lost);
    const pause = await this.#pass(survivor, beforeMs, () => {
      if (kind !== 'kill') this.#hosts.unplug(host);
      if (kind !== 'cut') lost.signal('SIGKILL');
    });
    if (kind !== 'kill') this.#hosts.plug(host);
    await this.#ended(lost, kind === 'cut' ? 'status 125' : 'SIGKILL');
    if (kind === 'cut' && !lost.has('claim-lost')) throw new Error(`it was not fenced\n${this.story()}`);
    return { ...pause, ...(await this.#protect(survivor, host)) };
  }

  /** The same for a planned switch. */
  async handOver(beforeMs: number): Promise<ChainReport> {
    const [before, after] = [this.#live as SideChild, this.#shadow as SideChild];
    const { host, control } = this.#place(before);
    const pause = await this.#pass(after, beforeMs, async () => {
      const reply = await ask(control, { op: 'hand-over' });
      if (!reply.ok) throw new Error(reply.message);
    });
    await this.#ended(before, 'status 0');
    return { ...pause, ...(await this.#protect(after, host)) };
  }

  /** The shadow's process stands still for so long; its host does not. Who suspected the other meanwhile. */
  async stall(ms: number): Promise<string[]> {
    const sides = [this.#live, this.#shadow] as SideChild[];
    const before = sides.map((side) => side.count('suspected'));
    this.#shadow?.signal('SIGSTOP');
    await sleep(ms);
    this.#shadow?.signal('SIGCONT');
    await sleep(ms);
    return sides
      .filter((side, index) => side.count('suspected') > (before[index] as number))
      .map(({ name }) => name);
  }

  /** `act` has the next generation begin, with `survivor` as its live side. */
  async #pass(survivor: SideChild, beforeMs: number, act: () => unknown): Promise<Pause> {
    const clients = this.#clients as Clients;
    const wanted = Object.fromEntries(PARTS.map((name) => [name, survivor.count(name) + 1])) as Record<
      Part,
      number
    >;
    await sleep(beforeMs);
    await clients.ask({ do: 'watch' });
    const failedUs = monotonicUs();
    await act();
    const first = await this.#notice(survivor, 'first-output', wanted['first-output']);
    this.#generation++;
    this.#live = survivor;
    const partsMs: Pause['partsMs'] = {};
    for (const name of PARTS) {
      const said = survivor.nth(name, wanted[name]);
      if (said) partsMs[name] = ((said.timeUs as number) - failedUs) / 1000;
    }
    const survivorUs = first.timeUs as number;
    const pause = await clients.ask<PauseReport>({ do: 'pause', failedUs, survivorUs });
    return { ...pause, partsMs, suspicion: survivor.nth('suspected', wanted.suspected)?.detail ?? '' };
  }

  async #ended(side: SideChild, wanted: string): Promise<void> {
    const how = await inTime(`the end of the ${side.name} that is no more`, side.end());
    if (how !== wanted) throw new Error(`the ${side.name} ended with ${how}\n${this.story()}`);
  }

  /** A new shadow on this host, and all as it should be. */
  async #protect(survivor: SideChild, host: string): Promise<Protection> {
    const states = survivor.count('state-sent');
    const begunUs = monotonicUs();
    this.#shadow = this.#spawn('shadow', host, this.#place(survivor).host);
    const armed = await this.#notice(this.#shadow, 'armed');
    const state = await this.#notice(survivor, 'state-sent', states + 1);
    await this.#judge();
    return {
      joinMs: ((armed.timeUs as number) - begunUs) / 1000,
      guestPauseMs: Number(/stood still for (\d+) ms/.exec(state.detail ?? '')?.[1]),
    };
  }

  /** What must hold now: no client noticed, all that was acknowledged is there, each generation has one winner. */
  async #judge(): Promise<void> {
    const { missing, troubles } = await (this.#clients as Clients).ask<{
      missing: number;
      troubles: string[];
    }>({
      do: 'check',
    });
    const wrong = [...troubles];
    if (missing > 0) wrong.push(`${missing} acknowledged writes are missing`);
    const won = this.#sides
      .flatMap(({ side }) => side.notices.filter(({ event }) => event === 'claim-won'))
      .map(({ generation }) => generation as number)
      .sort((a, b) => a - b);
    const wanted = Array.from({ length: this.#generation - 1 }, (_, index) => index + 2);
    if (won.join() !== wanted.join()) wrong.push(`generations were won thus: ${won.join()}`);
    if (this.#sides.some(({ side }) => side.has('diverged'))) wrong.push('a shadow diverged');
    if (wrong.length > 0) throw new Error(`${wrong.join('; ')}\n${this.story()}`);
  }

  /** Asks for everything that was ever acknowledged, and has redis end. How many that was, and the last side's log. */
  async finish(): Promise<{ report: ClientsReport; log: string }> {
    const report = await (this.#clients as Clients).ask<ClientsReport>({ do: 'finish' });
    const [program, ...rest] = this.#hosts.host('C').prefix;
    spawn(program, [...rest, 'redis-cli', '-h', ADDRESS, 'shutdown', 'nosave'], { stdio: 'ignore' });
    const live = this.#live as SideChild;
    const ended = await inTime('the end of the machine', Promise.all([live.end(), this.#shadow?.end()]));
    if (ended.some((how) => how !== 'status 0'))
      throw new Error(`the two sides ended with ${ended.join(' and ')}\n${this.story()}`);
    return { report, log: this.#place(live).log };
  }

  #place(side: SideChild): { host: string; log: string; control: string } {
    const found = this.#sides.find((one) => one.side === side);
    if (!found) throw new Error('a side of no host');
    return found;
  }

  /** What the last sides said. */
  story(): string {
    return this.#sides
      .slice(-4)
      .map(({ side, host }) => `on ${host}: ${side.story()}`)
      .join('\n');
  }

  /** Kills whatever is left. */
  async end(): Promise<void> {
    for (const { side } of this.#sides) {
      if (side.exited === undefined) side.signal('SIGKILL');
      await side.end();
    }
    await this.#clients?.end();
    await this.#etcd.remove();
    await this.#hosts.close();
  }
}
