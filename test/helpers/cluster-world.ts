/**
 * Hosts, sides and etcd as plan() sees them, without any of them: a model in which hosts die, come back and are cut off
 * from etcd, sides are killed, and what hosts say comes late. Counts the guests that run.
 */
import { type Plan, plan, type Step } from '../../lib/cluster/plan.js';
import type {
  ClusterView,
  HostRecord,
  MachineView,
  SideStatus,
  WantedSide,
} from '../../lib/cluster/records.js';
import type { Random } from './random.js';

interface RealSide {
  id: string;
  host: string;
  role: 'primary' | 'shadow';
  wanted: WantedSide;
  /** Its process is there. */
  alive: boolean;
  /** It ended by itself, and so said all that it knew. */
  ordered: boolean;
  /** Its guest faces the world, or may. */
  live: boolean;
  armed: boolean;
  generation: number;
  /** Whose link it has. */
  peer?: string;
}

interface RealHost {
  name: string;
  alive: boolean;
  incarnation: number;
  /** It can reach etcd. */
  reaches: boolean;
  announced: boolean;
}

const LINK = (id: string) => `tcp:${id}`;

export class World {
  readonly hosts: RealHost[];
  readonly real = new Map<string, RealSide>();
  readonly wanted = new Map<string, WantedSide>();
  /** What stands in etcd of how sides are. */
  readonly status = new Map<string, SideStatus>();
  /** Of the machine: the generation that somebody holds. */
  fence = 0;
  lost = false;
  marked = false;
  /** Primaries whose guest has begun to run. */
  readonly begun = new Set<string>();
  #next = 0;
  readonly #random: Random;

  constructor(random: Random, hosts: number) {
    this.#random = random;
    this.hosts = Array.from({ length: hosts }, (_, index) => ({
      name: `host${index}`,
      alive: true,
      incarnation: 0,
      reaches: true,
      announced: true,
    }));
  }

  view(): { machine: MachineView; hosts: ClusterView['hosts'] } {
    const hosts = new Map<string, HostRecord>();
    for (const { name, incarnation, announced } of this.hosts) {
      if (!announced) continue;
      hosts.set(name, {
        ...{ version: 1, name, id: name, incarnation: `${name}.${incarnation}`, address: name, images: '' },
        ...{ memoryMiB: 1000, memoryFreeMiB: 1000, cores: 1, sides: 0, vendor: 'v', cpuModel: 'x86-64-v3' },
        ...{ lockstep: '', net: true, leaving: false },
      });
    }
    const sides: MachineView['sides'] = new Map();
    for (const id of new Set([...this.wanted.keys(), ...this.status.keys()]))
      sides.set(id, { wanted: this.wanted.get(id), status: this.status.get(id) });
    const image = { sha256: '', bytes: 0 };
    const spec = { version: 1, id: '', image, memoryMiB: 100, cpuModel: 'x86-64-v3', vendor: 'v' } as const;
    return { machine: { name: 'm', spec, sides, begun: this.marked }, hosts };
  }

  /** A keeper's turn. */
  keep(): Plan {
    const { machine, hosts } = this.view();
    const planned = plan(machine, hosts);
    this.marked = planned.begun;
    for (const step of planned.steps) this.#do(step);
    return planned;
  }

  #do(step: Step): void {
    if (step.kind === 'forget') this.wanted.delete(step.id);
    else if (step.kind === 'start') this.wanted.set(`s${this.#next++}`, step.side);
    else if (step.kind === 'lost') this.lost = true;
    else if (step.kind === 'stop') {
      const before = this.wanted.get(step.id);
      if (before) this.wanted.set(step.id, { ...before, stop: true });
    }
  }

  /** A host looks at etcd, does what is wanted, and says how its sides are. */
  beat(host: RealHost): void {
    if (!host.alive || !host.reaches) return;
    host.announced = true;
    const incarnation = `${host.name}.${host.incarnation}`;
    for (const [id, wanted] of this.wanted) {
      if (wanted.host !== host.name || wanted.incarnation !== incarnation || this.real.has(id)) continue;
      const { role } = wanted;
      const begins = { alive: !wanted.stop, ordered: true, live: role === 'primary', armed: false };
      this.real.set(id, {
        id,
        host: host.name,
        role,
        wanted,
        ...begins,
        generation: role === 'primary' ? 1 : 0,
      });
    }
    for (const side of this.real.values()) {
      if (side.host !== host.name || side.wanted.incarnation !== incarnation) continue;
      const wanted = this.wanted.get(side.id);
      if (side.alive && (!wanted || (wanted.stop && !side.armed))) this.end(side, true);
      if (wanted) this.status.set(side.id, this.#say(side));
      else this.status.delete(side.id);
    }
  }

  #say(side: RealSide): SideStatus {
    const { host, alive, live, armed, generation, ordered } = side;
    return {
      host,
      incarnation: side.wanted.incarnation,
      state: alive ? 'running' : 'over',
      link: alive && live ? LINK(side.id) : undefined,
      live: alive && live,
      protected: alive && live && this.#shadowOf(side) !== undefined,
      armed,
      generation,
      control: '',
      why: alive ? undefined : ordered ? 'status 125' : 'SIGKILL',
    };
  }

  #shadowOf(side: RealSide): RealSide | undefined {
    return [...this.real.values()].find((one) => one.alive && one.armed && one.peer === side.id && !one.live);
  }

  /** A shadow that joins reaches the live side it was told of, and is armed. The primary's guest runs from then on. */
  join(side: RealSide): void {
    if (!side.alive || side.role !== 'shadow' || side.live || side.armed) return;
    const to = [...this.real.values()].find((one) => LINK(one.id) === side.wanted.join);
    if (!to?.alive || !to.live || this.#shadowOf(to)) {
      this.end(side, true);
      return;
    }
    Object.assign(side, { armed: true, peer: to.id, generation: to.generation });
    to.armed = true;
    this.fence = Math.max(this.fence, to.generation);
    if (to.role === 'primary') this.begun.add(to.id);
  }

  /** A side's process is over; its other side claims the next generation. */
  end(side: RealSide, ordered: boolean): void {
    if (!side.alive) return;
    const shadow = side.live ? this.#shadowOf(side) : undefined;
    const primary = side.peer === undefined ? undefined : this.real.get(side.peer);
    side.alive = false;
    side.ordered = ordered;
    // Who is killed may not have come to say that it was armed.
    const heir = shadow ?? (side.armed && primary?.alive && primary.live ? primary : undefined);
    if (!heir) return;
    heir.generation++;
    this.fence = heir.generation;
    heir.live = true;
    heir.peer = undefined;
  }

  /** Something happens. */
  strike(): void {
    const random = this.#random;
    const host = random.pick(this.hosts);
    const here = [...this.real.values()].filter((side) => side.host === host.name && side.alive);
    switch (random.between(0, 6)) {
      case 0:
        for (const side of here) this.end(side, false);
        host.alive = false;
        break;
      case 1:
      case 2:
        // It comes back.
        if (!host.alive) Object.assign(host, { alive: true, incarnation: host.incarnation + 1 });
        host.reaches = true;
        break;
      case 3:
        host.reaches = false;
        break;
      case 4:
        // Its lease is over.
        if (host.alive && host.reaches) break;
        host.announced = false;
        for (const [id, { host: of }] of this.status) if (of === host.name) this.status.delete(id);
        break;
      case 5:
        if (here.length > 0) this.end(random.pick(here), random.between(0, 1) === 1);
        break;
      default:
        for (const side of this.real.values()) if (random.between(0, 1) === 1) this.join(side);
    }
  }

  /** All is well from here on, until nothing changes any more. */
  settle(): void {
    for (const host of this.hosts) {
      if (!host.alive) Object.assign(host, { alive: true, incarnation: host.incarnation + 1 });
      host.reaches = true;
      for (const [id, { host: of, incarnation }] of this.status)
        if (of === host.name && incarnation !== `${host.name}.${host.incarnation}`) this.status.delete(id);
    }
    for (let turn = 0; turn < 30; turn++) {
      for (const host of this.hosts) this.beat(host);
      this.keep();
      for (const side of this.real.values()) this.join(side);
    }
    for (const host of this.hosts) this.beat(host);
  }

  /** Guests that have run and run now. */
  running(): RealSide[] {
    return [...this.real.values()].filter((side) => side.alive && side.live && side.armed);
  }

  tell(): string {
    return JSON.stringify({
      hosts: this.hosts,
      real: [...this.real.values()],
      wanted: [...this.wanted],
      status: [...this.status],
    });
  }

  beatSome(): void {
    for (const host of this.hosts) if (this.#random.between(0, 1) === 1) this.beat(host);
  }
}
