/**
 * Hosts of a cluster as network namespaces on one switch, with `lockstep host` on each, and one more where etcd, the
 * clients and `lockstep protect` are.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { Hosts } from '../../lib/cli/demo/hosts.js';
import type { KeptMachine } from '../../lib/cluster/keeper.js';
import type { HostRecord, MachineEnd } from '../../lib/cluster/records.js';
import { command, lockstep, root } from './command.js';
import { Etcd } from './etcd-hosts.js';
import { patience } from './pace.js';
import type { ClientsReport } from './redis-clients.js';

const OUTSIDE = 'D';

/** `lockstep ...` on a host, and what it prints. */
export class Program {
  readonly child: ChildProcess;
  text = '';
  readonly lines: string[] = [];
  readonly #over: Promise<[number | null, NodeJS.Signals | null]>;

  constructor(argv: string[]) {
    const [program, ...args] = argv as [string, ...string[]];
    this.child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'], cwd: root, detached: true });
    this.child.stdin?.on('error', () => {});
    this.#over = once(this.child, 'close') as Promise<[number | null, NodeJS.Signals | null]>;
    this.child.stderr?.on('data', (data) => {
      this.text += data;
    });
    createInterface({ input: this.child.stdout as NodeJS.ReadableStream }).on('line', (line) =>
      this.lines.push(line),
    );
  }

  /** kill -9. */
  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.#over;
  }

  async end(): Promise<number | string | null> {
    const [status, signal] = await this.#over;
    return signal ?? status;
  }
}

export interface Listing {
  hosts: HostRecord[];
  machines: (KeptMachine & {
    end?: MachineEnd;
    sides: { host: string; id: string; state: string; control?: string }[];
  })[];
}

export class Cluster {
  readonly hosts: Hosts;
  readonly etcd: Etcd;
  readonly servers: string;
  readonly agents = new Map<string, Program>();
  readonly #programs: Program[] = [];
  #watch: Program | undefined;
  readonly #directory: string;
  readonly #security: string[];

  private constructor(hosts: Hosts, directory: string, security: string[]) {
    this.hosts = hosts;
    this.#directory = directory;
    this.#security = security;
    this.servers = `${hosts.host(OUTSIDE).address}:2379`;
    this.etcd = new Etcd((argv) => [...hosts.host(OUTSIDE).prefix, ...argv]);
  }

  static async make(names: string[], directory: string, security: string[]): Promise<Cluster> {
    const hosts = await Hosts.make([...names, OUTSIDE], names);
    const made = new Cluster(hosts, directory, security);
    await made.startEtcd();
    for (const name of names) await made.startHost(name);
    return made;
  }

  async startEtcd(): Promise<void> {
    await this.etcd.start(this.servers);
    // What was listed before is of no more interest.
    this.#watch?.lines.splice(0);
  }

  /** A program on a host; without a name, outside of all. */
  run(argv: string[], host = OUTSIDE): Program {
    const program = new Program([...this.hosts.host(host).prefix, ...argv]);
    this.#programs.push(program);
    return program;
  }

  lockstep(args: string[], host?: string): Program {
    return this.run([process.execPath, lockstep, ...args], host);
  }

  async startHost(name: string): Promise<Program> {
    const own = [
      '--name',
      name,
      '--directory',
      join(this.#directory, name),
      '--memory',
      '1000',
      '--lease',
      '2',
    ];
    const args = ['host', '--etcd', this.servers, ...this.#security, ...own, '--net', 'bridge:br0'];
    const agent = this.lockstep(args, name);
    this.agents.set(name, agent);
    await this.until(`host ${name} is announced`, ({ hosts }) => hosts.some((host) => host.name === name));
    return agent;
  }

  /** kill -9 of all that runs on it; its sides end with it. */
  async killHost(name: string): Promise<void> {
    await this.agents.get(name)?.kill();
  }

  protect(args: string[]): Program {
    return this.lockstep([
      'protect',
      '--etcd',
      this.servers,
      ...this.#security,
      '--lease',
      '2',
      '--json',
      ...args,
    ]);
  }

  clients(count: number): Program {
    return this.run([
      process.execPath,
      '--import=tsx',
      join(root, 'test/helpers/cluster-clients.ts'),
      `${count}`,
    ]);
  }

  /** The keys in etcd by which sides claim to go on, but for marks of ends, which go by themselves. */
  async claims(): Promise<string[]> {
    const [key, end] = ['lockstep/pairs/', 'lockstep/pairs0'].map((text) =>
      Buffer.from(text).toString('base64'),
    );
    const range = JSON.stringify({ key, range_end: end, keys_only: true });
    const asked = this.run(['curl', '-sS', '-m', '5', '-d', range, `http://${this.servers}/v3/kv/range`]);
    if ((await asked.end()) !== 0) throw new Error(asked.text);
    const { kvs = [] } = JSON.parse(asked.lines.join('')) as { kvs?: { key: string }[] };
    const names = kvs.map((one) => Buffer.from(one.key, 'base64').toString());
    return names.filter((name) => !name.endsWith('/end'));
  }

  /** What `lockstep hosts` said last. */
  async listing(): Promise<Listing> {
    this.#watch ??= this.lockstep(['hosts', '--etcd', this.servers, '--json', '--watch', '0.1']);
    for (const begun = performance.now(); this.#watch.lines.length === 0; ) {
      if (this.#watch.child.exitCode !== null || performance.now() - begun > patience(30_000))
        throw new Error(`lockstep hosts says: ${this.#watch.text}`);
      await sleep(50);
    }
    return JSON.parse(this.#watch.lines.at(-1) as string) as Listing;
  }

  async until(what: string, is: (listing: Listing) => boolean): Promise<Listing> {
    let last: Listing | undefined;
    for (const begun = performance.now(); performance.now() - begun < patience(60_000); await sleep(100)) {
      last = await this.listing();
      if (is(last)) return last;
    }
    throw new Error(`it never came to be that ${what}: ${JSON.stringify(last)}\n${this.said()}`);
  }

  /** Protected, and not as before; says where. */
  async untilProtected(name: string, generation: number): Promise<{ live: string; shadow: string }> {
    const is = (machine: KeptMachine) =>
      machine.name === name && machine.protected && machine.generation >= generation;
    const { machines } = await this.until(`${name} is protected in generation ${generation}`, (listing) =>
      listing.machines.some(is),
    );
    const { live, shadow } = machines.find(is) as KeptMachine;
    return { live: live as string, shadow: shadow as string };
  }

  /** kill -9 of one process: the live side of a machine, or its shadow. */
  async killSide(name: string, which: 'live' | 'shadow'): Promise<void> {
    const { machines } = await this.listing();
    const machine = machines.find((one) => one.name === name);
    const side = machine?.sides.find(({ host }) => host === machine[which]);
    const { stdout } = await command([process.execPath, lockstep, 'status', '--json', side?.control ?? '']);
    const { sides } = JSON.parse(stdout.toString()) as { sides: { report: { pid: number } }[] };
    process.kill(sides[0]?.report.pid as number, 'SIGKILL');
  }

  /** Until a keeper has said so. */
  async hears(keeper: Program, what: (machine: KeptMachine) => boolean): Promise<void> {
    for (const begun = performance.now(); performance.now() - begun < patience(30_000); await sleep(50))
      if (keeper.lines.some((line) => what(JSON.parse(line) as KeptMachine))) return;
    throw new Error(`the keeper did not say it: ${keeper.lines.join('\n')}\n${this.said()}`);
  }

  /** What all programs said, for a test that failed. */
  said(): string {
    return this.#programs
      .map(({ text, child }) => `${child.spawnargs.slice(5).join(' ')}\n${text}`)
      .join('\n');
  }

  async remove(): Promise<void> {
    for (const { child } of this.#programs) child.kill('SIGKILL');
    await Promise.all(this.#programs.map((program) => program.end()));
    await this.etcd.remove();
    await this.hosts.close();
  }
}

/** Ends the clients: their report. */
export async function finish(clients: Program): Promise<ClientsReport> {
  clients.child.stdin?.end();
  const status = await clients.end();
  if (status !== 0) throw new Error(`the clients ended with ${status}: ${clients.text}`);
  return JSON.parse(clients.lines.at(-1) as string) as ClientsReport;
}

/** Until they have had so many more answers. */
export async function served(clients: Program, more: number): Promise<void> {
  const count = () => Number(clients.lines.at(-1) ?? 0);
  const before = count();
  for (const begun = performance.now(); count() < before + more; await sleep(50)) {
    if (performance.now() - begun > patience(30_000))
      throw new Error(`the clients are not served: ${clients.text}`);
  }
}
