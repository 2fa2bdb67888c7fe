/** Machines that are kept protected on the hosts of a cluster. */
import { randomUUID } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { EtcdOptions } from '../arbiter-etcd.js';
import { LockstepError } from '../errors.js';
import { checkMemory } from '../image/image-file.js';
import type { Image } from '../image.js';
import { netConfig } from '../net-options.js';
import { invalid, refuseWhatItHas } from '../options.js';
import type { SecurityOptions } from '../tls.js';
import { Keeper, type KeptMachine } from './keeper.js';
import { chooseHost } from './plan.js';
import {
  type ClusterView,
  checkName,
  claimsOf,
  type HostRecord,
  type MachineEnd,
  type MachineSpec,
  type MachineView,
  machineKeys,
  RECORD_VERSION,
} from './records.js';
import { Store } from './store.js';

export interface ProtectOptions extends SecurityOptions {
  etcd: EtcdOptions;
  /** What it is called, once in the cluster. */
  name: string;
  /** What it starts from. Not needed for a machine that runs: then it is only kept. */
  image?: Image;
  /** Default: what the image asks for. */
  memoryMiB?: number;
  /** Default: the highest that all hosts have. */
  cpuModel?: string;
  /** Its network card, joined to where each host says. Default: none. */
  net?: { ip?: string; gateway?: string; mac?: string };
  /** After so long without a word from it another keeper acts. Default 5 s. */
  leaseSeconds?: number;
  signal?: AbortSignal;
}

export interface ProtectedMachineEvents {
  change: [KeptMachine];
  /** etcd does not answer. The machine goes on, but nothing is mended meanwhile. */
  etcd: [{ detail: string }];
}

/** How long hosts that are just being started are waited for. */
const HOSTS_MS = 3000;

/** A machine that this process keeps protected, or would, if another one did not. */
export class ProtectedMachine extends EventEmitter<ProtectedMachineEvents> {
  readonly name: string;
  /** How the machine ended; rejects when it is closed before. */
  readonly ended: Promise<MachineEnd>;
  readonly #store: Store;
  readonly #stop = new AbortController();
  readonly #over: Promise<unknown>;

  /** @internal */
  constructor(store: Store, options: ProtectOptions) {
    super();
    const { name, image, tls, leaseSeconds = 5 } = options;
    this.name = name;
    this.#store = store;
    const changed = (machine: KeptMachine) => this.emit('change', machine);
    const etcd = (detail: string) => this.emit('etcd', { detail });
    const keeper = new Keeper({ store, name, image, tls, leaseSeconds, changed, etcd });
    this.ended = keeper.run(this.#stop.signal).then((end) => {
      if (end) return end;
      throw new LockstepError('ERR_LOCKSTEP_CLOSED', `${name} is kept no longer by this process`);
    });
    this.#over = this.ended.then(
      () => store.close(),
      () => store.close(),
    );
  }

  /** Keeps it no longer. The machine goes on; whoever calls {@link protect} next keeps it. Idempotent. */
  async close(): Promise<void> {
    this.#stop.abort();
    this.#store.bell.ring();
    await this.#over;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/**
 * Has two hosts run a machine, a primary and its shadow, and after each failure the next host a new shadow, until the
 * machine is over or this is closed. Of several that protect the same machine one acts, and another goes on when it is
 * gone.
 */
export async function protect(options: ProtectOptions): Promise<ProtectedMachine> {
  checkName(options.name, 'machine');
  if (options.memoryMiB !== undefined) checkMemory(options.memoryMiB);
  if (options.net) netConfig(options.net, new Uint8Array(32), invalid);
  const { memoryMiB, cpuModel, net } = options;
  if (options.image?.isSnapshot) refuseWhatItHas({ memoryMiB, cpuModel, ...net }, 'a snapshot');
  const store = await Store.open(options.etcd);
  try {
    await ensureSpec(store, options);
    return new ProtectedMachine(store, options);
  } catch (error) {
    store.close();
    throw error;
  }
}

/** Ends a machine, whoever keeps it. False when there is none. */
export async function unprotect(options: { etcd: EtcdOptions; name: string }): Promise<boolean> {
  const keys = machineKeys(checkName(options.name, 'machine'));
  const store = await Store.open(options.etcd);
  try {
    const machine = (await store.view()).machines.get(options.name);
    if (!machine?.spec) return false;
    const end: MachineEnd = { reason: 'removed', status: 0, detail: '', at: new Date().toISOString() };
    await store.commit({
      put: [[keys.end, JSON.stringify(end)]],
      remove: [keys.spec, keys.begun],
      removeAll: [keys.wanted(''), ...claimsOf(machine)],
    });
    return true;
  } finally {
    store.close();
  }
}

/** All hosts and machines that etcd knows. */
export async function cluster(etcd: EtcdOptions): Promise<{ view(): Promise<ClusterView>; close(): void }> {
  return await Store.open(etcd);
}

async function ensureSpec(store: Store, options: ProtectOptions): Promise<void> {
  const { name, image } = options;
  const keys = machineKeys(name);
  const needs = image && (await needsOf(image, options));
  for (const begun = performance.now(); ; await sleep(200, undefined, { signal: options.signal })) {
    const view = await store.view();
    const machine: MachineView = view.machines.get(name) ?? { name, sides: new Map() };
    if (machine.spec) {
      if (!needs || machine.spec.image.sha256 === needs.image.sha256) return;
      throw new LockstepError('ERR_LOCKSTEP_STATE', `there is another machine called ${name}`, {
        hint: 'Choose another --name, or end that one by `lockstep unprotect`.',
      });
    }
    if (!needs)
      throw new LockstepError('ERR_LOCKSTEP_STATE', `there is no machine called ${name}`, {
        hint: 'Say what it starts from: --image FILE, or a program after `--`.',
      });
    const made = makeSpec(view.hosts, machine, needs);
    if ('why' in made) {
      if (performance.now() - begun < HOSTS_MS) continue;
      throw new LockstepError('ERR_LOCKSTEP_RESOURCES', made.why, {
        hint: 'Start `lockstep host` on two machines at least; `lockstep hosts` shows them.',
      });
    }
    const when: [string, string | undefined][] = [[keys.spec, undefined]];
    if (
      await store.commit({
        when,
        put: [[keys.spec, JSON.stringify(made)]],
        remove: [keys.end, keys.begun],
        removeAll: [keys.wanted(''), ...claimsOf(machine)],
      })
    )
      return;
  }
}

/** What a machine asks of its hosts. The processor of one that boots is the highest that all of them have. */
type Needs = Omit<MachineSpec, 'version' | 'id' | 'vendor' | 'cpuModel'> &
  Partial<Pick<MachineSpec, 'vendor' | 'cpuModel'>>;

async function needsOf(image: Image, { memoryMiB, cpuModel, net }: ProtectOptions): Promise<Needs> {
  const { manifest, sha256, memoryBytes } = await image.inspect();
  const shared = {
    image: { sha256, bytes: image.bytes.length },
    memoryMiB: memoryMiB ?? memoryBytes / 2 ** 20,
  };
  if (manifest.kind !== 'snapshot') return { ...shared, cpuModel, net };
  if (manifest.cpuModel === undefined)
    throw invalid('the snapshot does not say what processor it needs', 'Take it again with this version.');
  const has = { vendor: manifest.vendor, cpuModel: manifest.cpuModel };
  return { ...shared, ...has, net: manifest.net ? {} : undefined, isSnapshot: true };
}

/** What all hosts of one vendor can run; or why no two of them can. */
function makeSpec(
  hosts: ReadonlyMap<string, HostRecord>,
  machine: MachineView,
  needs: Needs,
): MachineSpec | { why: string } {
  const all = [...hosts.values()].filter(({ leaving }) => !leaving);
  const count = (vendor: string) => all.filter((host) => host.vendor === vendor).length;
  const vendor = needs.vendor ?? all.map((host) => host.vendor).sort((a, b) => count(b) - count(a))[0] ?? '';
  const models = all.filter((host) => host.vendor === vendor).map((host) => host.cpuModel);
  const lowest = models.sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))[0] ?? '';
  const spec: MachineSpec = {
    ...needs,
    version: RECORD_VERSION,
    id: randomUUID(),
    cpuModel: needs.cpuModel ?? lowest,
    vendor,
  };
  const first = chooseHost({ ...machine, spec }, new Map(hosts), new Set());
  const second = first.host && chooseHost({ ...machine, spec }, new Map(hosts), new Set([first.host.name]));
  if (second?.host) return spec;
  const refused = first.host ? [`${first.host.name} has room`, ...first.refused] : first.refused;
  const list = hosts.size === 0 ? 'none is announced' : refused.join(', ');
  return { why: `there are no two hosts for a machine of ${needs.memoryMiB} MiB: ${list}` };
}
