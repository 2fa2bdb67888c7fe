/** A host: announces what it has, runs the sides that keepers want on it, and says how they are. */
import { randomUUID } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { mkdirSync } from 'node:fs';
import { availableParallelism, freemem, hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { EtcdOptions } from '../arbiter-etcd.js';
import { ask } from '../control/control-client.js';
import { type Deferred, deferred } from '../deferred.js';
import { LockstepError } from '../errors.js';
import { type CableOptions, cableConfig } from '../net-options.js';
import { invalid } from '../options.js';
import { packageVersion } from '../package-root.js';
import { probe } from '../probe.js';
import { checkSecure, type SecurityOptions } from '../tls.js';
import { directoryId, onlyAddress, usualDirectory } from './host-place.js';
import { HostedSide } from './hosted-side.js';
import { ImageServer } from './images.js';
import { DirectoryLock } from './lock.js';
import { tidy } from './output-file.js';
import { OVERHEAD_MIB } from './plan.js';
import {
  type ClusterView,
  checkName,
  type HostRecord,
  hostKey,
  type MachineEnd,
  machineKeys,
  RECORD_VERSION,
  type SideStatus,
  type WantedSide,
} from './records.js';
import { SideCommand } from './side-command.js';
import { Store } from './store.js';

export interface HostOptions extends SecurityOptions {
  etcd: EtcdOptions;
  /** What it is called, once in the cluster. Default: the system's host name. */
  name?: string;
  /** Where other hosts reach this one. Default: its only IPv4 address. */
  address?: string;
  /** The first for images, the others for links: one a side. Default 7100 to 7199. */
  ports?: { first: number; last: number };
  /** For machines. Default: four fifths of what is free now. */
  memoryMiB?: number;
  /** Default: those that this process may use. */
  cores?: number;
  /** Where the cards of machines are joined to. Default: machines with a card do not come here. */
  net?: CableOptions;
  /** Where sockets, images and what programs print go. Default: `/var/lib/lockstep/NAME`, or in the home directory. */
  directory?: string;
  /** After so long without a word from it others take it for gone. Default 5 s. */
  leaseSeconds?: number;
}

export interface HostEvents {
  /** It stands in etcd. */
  announced: [HostRecord];
  /** A side was started, is another now, or is over. */
  side: [{ machine: string; id: string; role: 'primary' | 'shadow'; status: SideStatus }];
  /** etcd does not answer, or does again (no detail): the sides go on in any case. */
  etcd: [{ detail: string }];
  /** It is leaving, and waits for this. */
  leaving: [{ detail: string }];
}

const CONNECT_MS = 5000;
const LOOK_MS = 1000;
const PORTS = { first: 7100, last: 7199 };
const TIDY_MS = 3_600_000;
/** A side that hands over is over a second later at most; one that nobody wants is killed in five. */
const LEAVE_LOOK_MS = 200;

export class Host extends EventEmitter<HostEvents> {
  readonly name: string;
  readonly directory: string;
  readonly #store: Store;
  readonly #lock: DirectoryLock;
  readonly #images: ImageServer;
  readonly #command: SideCommand;
  readonly #record: HostRecord;
  readonly #ports: { first: number; last: number };
  readonly #leaseSeconds: number;
  readonly #sides = new Map<string, { machine: string; id: string; side: HostedSide; sha256?: string }>();
  /** Refused, or over: none is started twice. */
  readonly #done = new Map<string, SideStatus>();
  readonly #ends = new Map<string, MachineEnd>();
  /** What stands in etcd under the lease. */
  readonly #published = new Map<string, string>();
  readonly #ended: Deferred<void> = deferred();
  #lease: string | undefined;
  #keptAt = 0;
  #tidiedAt = Number.NEGATIVE_INFINITY;
  #unreachable = false;
  #leaving: Promise<void> | undefined;
  #gone = false;

  /** Resolves when the host stands in etcd. */
  static async start(options: HostOptions): Promise<Host> {
    const name = checkName(options.name ?? hostname().split('.')[0] ?? '', 'host');
    const address = options.address ?? onlyAddress();
    checkSecure(`tcp:${address}:1`, options);
    const ports = options.ports ?? PORTS;
    if (!(ports.first >= 1 && ports.last <= 65_535 && ports.last > ports.first))
      throw invalid(`the ports ${ports.first}-${ports.last} are not at least two from 1 to 65535`);
    const leaseSeconds = options.leaseSeconds ?? 5;
    if (!(Number.isInteger(leaseSeconds) && leaseSeconds >= 2 && leaseSeconds <= 3600))
      throw invalid(`leaseSeconds (${leaseSeconds}) must be from 2 to 3600`);
    if (options.net) cableConfig(options.net, invalid);
    const machine = await probe();
    if (machine.error) throw new LockstepError('ERR_LOCKSTEP_NO_KVM', machine.error, { hint: machine.hint });
    const directory = options.directory ?? usualDirectory(name);
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const lock = await DirectoryLock.take(directory);
    const closers: (() => unknown)[] = [() => lock.release()];
    try {
      const images = await ImageServer.listen(join(directory, 'images'), address, ports.first, options.tls);
      closers.push(() => images.close());
      const store = await Store.open(options.etcd, CONNECT_MS);
      closers.push(() => store.close());
      const memoryMiB = options.memoryMiB ?? Math.floor((freemem() / 2 ** 20) * 0.8);
      const record: HostRecord = {
        version: RECORD_VERSION,
        name,
        id: directoryId(directory),
        incarnation: randomUUID(),
        address,
        images: images.url(address, ports.first),
        memoryMiB,
        memoryFreeMiB: memoryMiB,
        cores: options.cores ?? availableParallelism(),
        sides: 0,
        vendor: machine.vendor,
        cpuModel: machine.cpuModel,
        lockstep: packageVersion(),
        net: options.net !== undefined,
        leaving: false,
      };
      const command = new SideCommand(directory, options);
      const parts = { store, lock, images, command, record, ports, leaseSeconds, directory };
      const host = new Host({ ...options, name }, parts);
      await host.#announce();
      void host.#run();
      return host;
    } catch (error) {
      for (const close of closers.reverse()) await close();
      throw error;
    }
  }

  private constructor(
    options: HostOptions & { name: string },
    parts: {
      store: Store;
      lock: DirectoryLock;
      images: ImageServer;
      command: SideCommand;
      record: HostRecord;
      ports: { first: number; last: number };
      leaseSeconds: number;
      directory: string;
    },
  ) {
    super();
    this.name = options.name;
    this.directory = parts.directory;
    this.#store = parts.store;
    this.#lock = parts.lock;
    this.#images = parts.images;
    this.#command = parts.command;
    this.#record = parts.record;
    this.#ports = parts.ports;
    this.#leaseSeconds = parts.leaseSeconds;
  }

  /** Resolves when the host has left; rejects when it was put out, because another has its name. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  get record(): HostRecord {
    const used = [...this.#sides.values()].filter(({ side }) => !side.over);
    const memory = used.reduce((sum, { side }) => sum + side.options.memoryMiB + OVERHEAD_MIB, 0);
    return { ...this.#record, memoryFreeMiB: this.#record.memoryMiB - memory, sides: used.length };
  }

  /**
   * Withdraws: takes nothing new, hands over what is live here as soon as another host has a shadow of it, ends the rest,
   * and leaves. `now`: ends what is here at once; a machine without a shadow is lost with it.
   */
  async close({ now = false } = {}): Promise<void> {
    this.#leaving ??= this.#leave();
    if (now) for (const { side } of this.#sides.values()) side.stop();
    await this.#leaving;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** The first time: the name must be free, or be this directory's own from before. */
  async #announce(): Promise<void> {
    const patience = (this.#leaseSeconds * 2 + 1) * 1000;
    for (const begun = performance.now(); ; await sleep(200)) {
      const there = (await this.#store.view()).hosts.get(this.name);
      if (there && there.id !== this.#record.id) {
        if (performance.now() - begun > patience) throw this.#taken(there);
        continue;
      }
      const lease = await this.#store.grant(this.#leaseSeconds);
      const text = JSON.stringify(this.record);
      const before = there === undefined ? undefined : JSON.stringify(there);
      const done = await this.#store.commit({
        when: [[hostKey(this.name), before]],
        put: [[hostKey(this.name), text, lease]],
      });
      if (!done) continue;
      this.#lease = lease;
      this.#keptAt = performance.now();
      this.#published.set(hostKey(this.name), text);
      return;
    }
  }

  #taken(by: HostRecord): LockstepError {
    return new LockstepError(
      'ERR_LOCKSTEP_STATE',
      `a host called ${this.name} is there already, at ${by.address}`,
      {
        hint: 'Give this one another --name.',
      },
    );
  }

  async #run(): Promise<void> {
    this.emit('announced', this.record);
    while (!this.#gone) {
      try {
        await this.#beat();
        if (this.#unreachable) this.emit('etcd', { detail: '' });
        this.#unreachable = false;
      } catch (error) {
        if (error instanceof LockstepError && error.code === 'ERR_LOCKSTEP_STATE') {
          this.#ended.reject(error);
          void this.close({ now: true });
        }
        if (!this.#unreachable) this.emit('etcd', { detail: (error as Error).message });
        this.#unreachable = true;
      }
      await this.#store.bell.heard(Math.min(LOOK_MS, (this.#leaseSeconds * 1000) / 4));
    }
  }

  /** Keeps the lease, does what is wanted, and says how it went. */
  async #beat(): Promise<void> {
    if (this.#lease !== undefined && performance.now() - this.#keptAt > (this.#leaseSeconds * 1000) / 4) {
      if (await this.#store.keepAlive(this.#lease)) this.#keptAt = performance.now();
      else this.#lease = undefined;
    }
    if (this.#lease === undefined) {
      this.#lease = await this.#store.grant(this.#leaseSeconds);
      this.#keptAt = performance.now();
      this.#published.clear();
    }
    const view = await this.#store.view();
    const there = view.hosts.get(this.name);
    if (there && there.incarnation !== this.#record.incarnation) throw this.#taken(there);
    this.#heed(view);
    this.#tidy();
    await this.#publish(view);
  }

  /** Starts what is wanted here and was not started, stops what is wanted no more. */
  #heed(view: ClusterView): void {
    const mine = new Map<string, { machine: string; id: string; wanted: WantedSide }>();
    for (const machine of view.machines.values()) {
      for (const [id, { wanted }] of machine.sides) {
        if (wanted?.host !== this.name || wanted.incarnation !== this.#record.incarnation) continue;
        mine.set(machineKeys(machine.name).status(id), { machine: machine.name, id, wanted });
      }
    }
    for (const [key, { side, sha256 }] of this.#sides) {
      if (!side.over) {
        const wanted = mine.get(key)?.wanted;
        if (!wanted || (wanted.stop && !side.status().armed)) side.stop();
      } else if (!mine.has(key)) {
        this.#sides.delete(key);
        this.#tidiedAt = Number.NEGATIVE_INFINITY;
        const others = [...this.#sides.values()].some((one) => one.sha256 === sha256);
        if (sha256 !== undefined && !others) this.#images.forget(sha256);
      }
    }
    for (const key of this.#done.keys()) if (!mine.has(key)) this.#done.delete(key);
    for (const [key, { machine, id, wanted }] of mine) {
      if (this.#sides.has(key) || this.#done.has(key)) continue;
      try {
        this.#start(view, key, machine, id, wanted);
      } catch (error) {
        this.#refuse(key, wanted, (error as Error).message);
      }
    }
  }

  #tidy(): void {
    if (performance.now() - this.#tidiedAt < TIDY_MS) return;
    this.#tidiedAt = performance.now();
    tidy(this.directory, new Set([...this.#sides.values()].map(({ side }) => side.options.name)));
  }

  #start(view: ClusterView, key: string, machine: string, id: string, wanted: WantedSide): void {
    const spec = view.machines.get(machine)?.spec;
    if (!spec) return;
    checkName(machine, 'machine');
    checkName(id, 'side');
    if (wanted.stop || this.#leaving) throw new Error('this host is leaving');
    const { memoryFreeMiB } = this.record;
    if (spec.memoryMiB + OVERHEAD_MIB > memoryFreeMiB) throw new Error(`only ${memoryFreeMiB} MiB are free`);
    const { role } = wanted;
    const image = role === 'primary' ? this.#images.path(spec.image.sha256) : undefined;
    if (role === 'primary' && image === undefined) throw new Error('its image did not come');
    const listensAt = this.#link();
    const side = new HostedSide({
      role,
      args: this.#command.args(spec, wanted, listensAt, image),
      env: this.#command.env,
      directory: this.directory,
      name: `${machine}.${id}`,
      host: this.name,
      incarnation: this.#record.incarnation,
      listensAt,
      memoryMiB: spec.memoryMiB,
      changed: () => {
        this.emit('side', { machine, id, role, status: side.status() });
        if (side.ended) this.#ends.set(machine, { ...side.ended, at: new Date().toISOString() });
        this.#store.bell.ring();
      },
    });
    this.#sides.set(key, { machine, id, side, sha256: image && spec.image.sha256 });
    this.emit('side', { machine, id, role, status: side.status() });
  }

  #refuse(key: string, { host, incarnation }: WantedSide, why: string): void {
    this.#done.set(key, {
      ...{ host, incarnation, state: 'over', live: false, protected: false, armed: false },
      ...{ generation: 0, control: '', why: `status 125: ${why}` },
    });
  }

  /** An address that no side here listens at. */
  #link(): string {
    const taken = new Set(
      [...this.#sides.values()].filter(({ side }) => !side.over).map(({ side }) => side.options.listensAt),
    );
    for (let port = this.#ports.first + 1; port <= this.#ports.last; port++) {
      const address = `tcp:${this.#record.address}:${port}`;
      if (!taken.has(address)) return address;
    }
    throw new Error('all its ports are taken');
  }

  /** Brings etcd up to date with what is so here. */
  async #publish(view: ClusterView): Promise<void> {
    const now = new Map<string, string>();
    if (!this.#gone) now.set(hostKey(this.name), JSON.stringify(this.record));
    for (const [key, { side }] of this.#sides) now.set(key, JSON.stringify(side.status()));
    for (const [key, status] of this.#done) now.set(key, JSON.stringify(status));
    const lease = this.#lease as string;
    const put: [string, string, string?][] = [...now]
      .filter(([key, text]) => this.#published.get(key) !== text)
      .map(([key, text]) => [key, text, lease]);
    const remove = [...this.#published.keys()].filter((key) => !now.has(key));
    for (const [machine, end] of this.#ends) {
      const there = view.machines.get(machine);
      if (there?.spec && !there.end) put.push([machineKeys(machine).end, JSON.stringify(end)]);
      else this.#ends.delete(machine);
    }
    if (put.length === 0 && remove.length === 0) return;
    await this.#store.commit({ put, remove });
    for (const [key, text] of now) this.#published.set(key, text);
    for (const key of remove) this.#published.delete(key);
  }

  async #leave(): Promise<void> {
    this.#record.leaving = true;
    this.#store.bell.ring();
    let said = '';
    for (;;) {
      const here = [...this.#sides.values()].filter(({ side }) => !side.over);
      if (here.length === 0) break;
      const waits = here.filter(({ side }) => side.live && !side.protected).map(({ machine }) => machine);
      for (const { side } of here) {
        if (!side.live) side.stop();
        // Refused when its shadow was lost just now; then there will be another.
        else if (side.protected) await ask(side.control, { op: 'hand-over' }).catch(() => {});
      }
      const detail =
        waits.length > 0 ? `${waits.join(', ')}: no other host has a shadow yet` : 'its sides end';
      if (detail !== said) this.emit('leaving', { detail });
      said = detail;
      await sleep(LEAVE_LOOK_MS);
    }
    this.#gone = true;
    this.#store.bell.ring();
    if (this.#lease !== undefined) await this.#store.revoke(this.#lease).catch(() => {});
    this.#store.close();
    await this.#images.close();
    await this.#lock.release();
    this.#ended.resolve();
  }
}
