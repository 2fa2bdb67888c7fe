/**
 * Keeps one machine protected: does what plan() says, again and again. Of all keepers of a machine the one whose key
 * stands in etcd acts, and every change it makes holds only while that key does; the others wait for their turn.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import type { Image } from '../image.js';
import type { TlsOptions } from '../tls.js';
import { sendImage } from './images.js';
import { type Plan, plan, type Step } from './plan.js';
import {
  type ClusterView,
  claimsOf,
  type MachineEnd,
  type MachineView,
  machineKeys,
  type WantedSide,
} from './records.js';
import type { Change, Store } from './store.js';

/** Where a machine stands, as its keeper sees it. */
export interface KeptMachine {
  name: string;
  /** This process acts for it; otherwise another one does. */
  keeping: boolean;
  protected: boolean;
  generation: number;
  /** The host of the live side, and of the other one. */
  live?: string;
  shadow?: string;
  /** What it waits for, where it is not protected. */
  waiting?: string;
}

export interface KeeperOptions {
  store: Store;
  name: string;
  /** Needed until the primary has started. */
  image?: Image;
  tls?: TlsOptions;
  leaseSeconds: number;
  changed: (machine: KeptMachine) => void;
  etcd: (detail: string) => void;
}

const LOOK_MS = 1000;
const AVOID_MS = 30_000;
/** Far more than the memory of a machine takes: who has not joined by then never will. */
const JOIN_MS = 300_000;
const STARTS_MAX = 3;
const AGAIN_MS = 200;
const AGAIN_MS_MAX = 10_000;

export class Keeper {
  readonly #options: KeeperOptions;
  readonly #self = `${hostname()}, process ${process.pid}, ${randomUUID()}`;
  readonly #keys: ReturnType<typeof machineKeys>;
  readonly #avoid = new Map<string, number>();
  readonly #since = new Map<string, number>();
  #lease: string | undefined;
  #keptAt = 0;
  #failures = 0;
  #startAt = 0;
  #why = '';
  #told = '';
  #unreachable = false;

  constructor(options: KeeperOptions) {
    this.#options = options;
    this.#keys = machineKeys(options.name);
  }

  /** Until the machine is over; undefined when aborted before. */
  async run(signal: AbortSignal): Promise<MachineEnd | undefined> {
    try {
      return await this.#turns(signal);
    } finally {
      if (this.#lease !== undefined) await this.#options.store.revoke(this.#lease).catch(() => {});
    }
  }

  async #turns(signal: AbortSignal): Promise<MachineEnd | undefined> {
    const { store, leaseSeconds, etcd } = this.#options;
    while (!signal.aborted) {
      try {
        const end = await this.#turn(signal);
        if (end) return end;
        this.#unreachable = false;
      } catch (error) {
        if (signal.aborted) break;
        if (!this.#unreachable) etcd((error as Error).message);
        this.#unreachable = true;
      }
      const wait = Math.max(10, Math.min(LOOK_MS, (leaseSeconds * 1000) / 4, this.#untilStart()));
      await store.bell.heard(wait, signal);
    }
    return undefined;
  }

  #untilStart(): number {
    const left = this.#startAt - performance.now();
    return left > 0 ? left : LOOK_MS;
  }

  async #turn(signal: AbortSignal): Promise<MachineEnd | undefined> {
    const { store, name } = this.#options;
    await this.#keepLease();
    const view = await store.view();
    const machine = view.machines.get(name);
    if (!machine?.spec)
      return machine?.end ?? { reason: 'removed', status: 0, detail: '', at: new Date().toISOString() };
    const keeping =
      machine.keeper === this.#self || (machine.keeper === undefined && (await this.#takeOffice()));
    if (machine.end) {
      if (keeping) await this.#clear(machine);
      return machine.end;
    }
    const planned = plan(machine, view.hosts, this.#avoided());
    this.#tell(machine, planned, keeping);
    if (keeping) await this.#act(view, machine, planned, signal);
    return undefined;
  }

  async #keepLease(): Promise<void> {
    const { store, leaseSeconds } = this.#options;
    if (this.#lease !== undefined && performance.now() - this.#keptAt > (leaseSeconds * 1000) / 4) {
      if (await store.keepAlive(this.#lease)) this.#keptAt = performance.now();
      else this.#lease = undefined;
    }
    if (this.#lease === undefined) {
      this.#lease = await store.grant(leaseSeconds);
      this.#keptAt = performance.now();
    }
  }

  /** Exactly one gets it; and keeps it for as long as its lease. */
  #takeOffice(): Promise<boolean> {
    const { keeper } = this.#keys;
    return this.#options.store.commit({
      when: [[keeper, undefined]],
      put: [[keeper, this.#self, this.#lease]],
    });
  }

  #commit(change: Change): Promise<boolean> {
    return this.#options.store.commit({
      ...change,
      when: [[this.#keys.keeper, this.#self], ...(change.when ?? [])],
    });
  }

  async #clear(machine: MachineView): Promise<void> {
    const { spec, keeper, begun, wanted } = this.#keys;
    await this.#commit({
      remove: [spec, keeper, begun],
      removeAll: [wanted(''), ...claimsOf(machine)],
    });
  }

  async #act(view: ClusterView, machine: MachineView, planned: Plan, signal: AbortSignal): Promise<void> {
    if (planned.protected) this.#failures = 0;
    const change: Required<Pick<Change, 'put' | 'remove' | 'removeAll'>> = {
      put: [],
      remove: [],
      removeAll: [],
    };
    for (const step of planned.steps) {
      if (step.kind === 'forget') this.#forget(machine, step.id, change);
      else if (step.kind === 'stop') this.#stop(machine, step.id, change);
      else if (step.kind === 'lost') change.put.push([this.#keys.end, this.#end('lost', step.why)]);
      else if (step.kind === 'wait') this.#giveUpJoins(machine, planned, change);
    }
    const { begun } = planned;
    const forgotten = (id: string) => change.remove.includes(this.#keys.wanted(id));
    // A machine that never began begins anew, as another pair.
    if (!begun && [...machine.sides.keys()].every(forgotten)) change.removeAll.push(...claimsOf(machine));
    if (begun && !machine.begun) change.put.push([this.#keys.begun, 'true']);
    if (!begun && this.#failures >= STARTS_MAX)
      change.put.push([this.#keys.end, this.#end('failed-to-start', this.#why)]);
    if (change.put.length + change.remove.length > 0) await this.#commit(change);
    const start = planned.steps.find((step): step is Step & { kind: 'start' } => step.kind === 'start');
    if (start && (begun || this.#failures < STARTS_MAX)) await this.#start(view, machine, start.side, signal);
  }

  async #start(
    view: ClusterView,
    machine: MachineView,
    side: WantedSide,
    signal: AbortSignal,
  ): Promise<void> {
    if (performance.now() < this.#startAt) return;
    const host = view.hosts.get(side.host);
    if (side.role === 'primary' && host && machine.spec) {
      const { image, tls } = this.#options;
      if (!image) return;
      try {
        await sendImage(host.images, machine.spec.image.sha256, image.bytes, tls, signal);
      } catch (error) {
        this.#failed(side.host, (error as Error).message);
        return;
      }
      await this.#keepLease();
    }
    const id = randomBytes(4).toString('hex');
    this.#since.set(id, performance.now());
    const pair = side.role === 'primary' ? randomBytes(16).toString('hex') : side.pair;
    await this.#commit({ put: [[this.#keys.wanted(id), JSON.stringify({ ...side, pair })]] });
  }

  #forget(machine: MachineView, id: string, change: { remove: string[] }): void {
    const { wanted, status } = machine.sides.get(id) ?? {};
    change.remove.push(this.#keys.wanted(id));
    // What ended after it stood by did no wrong; where it was, is less good a place for a while all the same.
    if (status?.armed) this.#avoid.set(status.host, performance.now() + AVOID_MS);
    else if (wanted) this.#failed(wanted.host, status?.why ?? 'its host is gone');
  }

  #stop(machine: MachineView, id: string, change: Required<Pick<Change, 'put'>>): void {
    const { wanted } = machine.sides.get(id) ?? {};
    if (wanted) change.put.push([this.#keys.wanted(id), JSON.stringify({ ...wanted, stop: true })]);
  }

  #giveUpJoins(
    machine: MachineView,
    { live, protected: isProtected }: Plan,
    change: Required<Pick<Change, 'put'>>,
  ): void {
    if (live === undefined || isProtected) return;
    for (const id of machine.sides.keys()) {
      if (id === live) continue;
      const since = this.#since.get(id) ?? performance.now();
      this.#since.set(id, since);
      if (performance.now() - since > JOIN_MS) this.#stop(machine, id, change);
    }
  }

  #failed(host: string, why: string): void {
    this.#failures++;
    this.#why = `${host}: ${why}`;
    this.#avoid.set(host, performance.now() + AVOID_MS);
    this.#startAt = performance.now() + Math.min(AGAIN_MS_MAX, AGAIN_MS * 2 ** this.#failures);
  }

  #avoided(): ReadonlySet<string> {
    for (const [host, until] of this.#avoid) if (until < performance.now()) this.#avoid.delete(host);
    return new Set(this.#avoid.keys());
  }

  #end(reason: MachineEnd['reason'], detail: string): string {
    return JSON.stringify({ reason, status: 125, detail, at: new Date().toISOString() } satisfies MachineEnd);
  }

  #tell(machine: MachineView, planned: Plan, keeping: boolean): void {
    const kept = keptMachine(machine, planned, keeping);
    const text = JSON.stringify(kept);
    if (text === this.#told) return;
    this.#told = text;
    this.#options.changed(kept);
  }
}

export function keptMachine(
  machine: MachineView,
  { live, protected: isProtected, steps }: Plan,
  keeping = false,
): KeptMachine {
  const side = live === undefined ? undefined : machine.sides.get(live);
  const others = [...machine.sides].filter(([id, { wanted }]) => id !== live && wanted);
  const generation = side?.status?.generation ?? 0;
  const other = others.find(([, one]) => one.wanted?.generation === generation) ?? others[0];
  const waits = steps.flatMap((step) => (step.kind === 'wait' ? [step.why] : []));
  return {
    name: machine.name,
    keeping,
    protected: isProtected,
    generation,
    live: side?.wanted?.host,
    shadow: other?.[1].wanted?.host,
    waiting: isProtected ? undefined : waits[0],
  };
}
