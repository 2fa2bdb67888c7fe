/**
 * What stands in etcd about hosts and machines, and where. Each key has one writer: a host its announcement and how
 * its sides are (both under its lease), a machine's keeper what is wanted.
 */
import type { EndReason } from '../events.js';
import { invalid } from '../options.js';

/** A machine's share of a host that is announced. Hosts and keepers of another version leave it alone. */
export const RECORD_VERSION = 1;

/** A host that is there: its key lasts as long as its lease. */
export interface HostRecord {
  version: typeof RECORD_VERSION;
  name: string;
  /** Whose directory this is; the same when the host comes back. */
  id: string;
  /** Of this run of the host: sides of an earlier one are dead. */
  incarnation: string;
  /** Where other hosts reach it. */
  address: string;
  /** Where it takes images. */
  images: string;
  memoryMiB: number;
  memoryFreeMiB: number;
  cores: number;
  sides: number;
  vendor: string;
  cpuModel: string;
  lockstep: string;
  /** It has a network to which machines' cards can be joined. */
  net: boolean;
  /** It is on its way out, and takes nothing new. */
  leaving: boolean;
}

/** What a machine is made from, for as long as there is one. */
export interface MachineSpec {
  version: typeof RECORD_VERSION;
  /** Random: tells a machine from the next of its name. */
  id: string;
  image: { sha256: string; bytes: number };
  memoryMiB: number;
  cpuModel: string;
  vendor: string;
  net?: { ip?: string; gateway?: string; mac?: string };
  /** It goes on from a snapshot, and so has its memory, processor and addresses already. */
  isSnapshot?: boolean;
}

/** A side that a host is to run, once. */
export interface WantedSide {
  role: 'primary' | 'shadow';
  host: string;
  incarnation: string;
  /** Of a shadow: whose it is to be, and in which generation of it. A side of an older one is out of date. */
  join?: string;
  generation: number;
  /** The pair that it is to be, or to join where that is known. */
  pair?: string;
  /** End it if it was never armed, and say how it ended. When this record is gone, end it in any case. */
  stop?: boolean;
}

/** How a side is, as its host says. */
export interface SideStatus {
  host: string;
  incarnation: string;
  state: 'starting' | 'running' | 'over';
  /** Where a shadow can join it. */
  link?: string;
  /** Its pair's id. */
  pair?: string;
  live: boolean;
  protected: boolean;
  /** It has been one of an armed pair. */
  armed: boolean;
  generation: number;
  /** For `lockstep status`, on its host. */
  control: string;
  /** How its process ended, and what it said last. */
  why?: string;
}

/** The machine is over. Stays until the next machine of this name. */
export interface MachineEnd {
  reason: EndReason | 'lost' | 'failed-to-start' | 'removed';
  status: number;
  detail: string;
  at: string;
}

export interface MachineView {
  name: string;
  spec?: MachineSpec;
  /** Who keeps it, in words; and its whole record. */
  keeper?: string;
  end?: MachineEnd;
  /** A pair of it was armed once: its guest may have run, and it can never start from its image again. */
  begun?: boolean;
  sides: Map<string, { wanted?: WantedSide; status?: SideStatus }>;
}

export interface ClusterView {
  hosts: Map<string, HostRecord>;
  machines: Map<string, MachineView>;
}

/** Names stand in keys, file names and process lists. */
export function checkName(name: string, what: string): string {
  if (/^[a-zA-Z0-9](?:[a-zA-Z0-9._-]{0,61}[a-zA-Z0-9])?$/.test(name)) return name;
  throw invalid(
    `'${name}' cannot be the name of a ${what}`,
    'Write 1 to 63 letters, digits and - _ . between them.',
  );
}

/** All that its pairs have claimed at the arbiter, who has the same etcd. With these no side of it can go on any more. */
export function claimsOf({ sides }: MachineView): string[] {
  const pairs = [...sides.values()].flatMap(({ wanted }) => wanted?.pair ?? []);
  return [...new Set(pairs)].map((pair) => `pairs/${pair}/`);
}

export const hostKey = (name: string): string => `hosts/${name}`;
export const machineKeys = (name: string) => ({
  all: `machines/${name}/`,
  spec: `machines/${name}/spec`,
  keeper: `machines/${name}/keeper`,
  end: `machines/${name}/end`,
  begun: `machines/${name}/begun`,
  wanted: (id: string) => `machines/${name}/wanted/${id}`,
  status: (id: string) => `machines/${name}/status/${id}`,
});

/** One picture of everything, from the keys and values below the prefix. */
export function viewOf(entries: Iterable<[string, string]>): ClusterView {
  const view: ClusterView = { hosts: new Map(), machines: new Map() };
  for (const [key, text] of entries) {
    const [kind, name = '', field, id = ''] = key.split('/');
    if (kind === 'hosts') {
      const record = JSON.parse(text) as HostRecord;
      if (record.version === RECORD_VERSION) view.hosts.set(name, record);
      continue;
    }
    const machine: MachineView = view.machines.get(name) ?? { name, sides: new Map() };
    view.machines.set(name, machine);
    if (field === 'keeper') machine.keeper = text;
    else if (field === 'begun') machine.begun = true;
    else if (field === 'spec') machine.spec = JSON.parse(text) as MachineSpec;
    else if (field === 'end') machine.end = JSON.parse(text) as MachineEnd;
    else if (field === 'wanted' || field === 'status') {
      const side = machine.sides.get(id) ?? {};
      machine.sides.set(id, side);
      Object.assign(side, { [field]: JSON.parse(text) });
    }
  }
  return view;
}
