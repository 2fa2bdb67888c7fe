import { setTimeout as sleep } from 'node:timers/promises';
import { type KeptMachine, keptMachine } from '../cluster/keeper.js';
import { plan } from '../cluster/plan.js';
import { cluster } from '../cluster/protect.js';
import type { ClusterView, HostRecord, MachineEnd } from '../cluster/records.js';
import { etcdOptions } from './etcd.js';
import type { EtcdFlags } from './options.js';
import { aligned, say } from './report.js';

interface Flags extends EtcdFlags {
  quiet?: boolean;
  json?: boolean;
  /** Seconds; true without a number. */
  watch?: number | true;
}

interface Machine extends KeptMachine {
  memoryMiB?: number;
  keeper?: string;
  end?: MachineEnd;
  sides: { host: string; id: string; state: string; control?: string }[];
}

function machinesOf({ hosts, machines }: ClusterView): Machine[] {
  const known = [...machines.values()].filter(({ spec, end }) => spec ?? end);
  return known.map((machine) => ({
    ...keptMachine(machine, plan(machine, hosts), machine.keeper !== undefined),
    memoryMiB: machine.spec?.memoryMiB,
    keeper: machine.keeper,
    end: machine.end,
    sides: [...machine.sides].flatMap(([id, { wanted, status }]) =>
      wanted ? [{ host: wanted.host, id, state: status?.state ?? 'unheard', control: status?.control }] : [],
    ),
  }));
}

function hostRow({ name, address, memoryFreeMiB, memoryMiB, cores, sides, ...host }: HostRecord): string[] {
  const cpu = `${host.vendor} ${host.cpuModel}`;
  const state = host.leaving ? 'leaving' : 'there';
  return [name, address, `${memoryFreeMiB} of ${memoryMiB} MiB`, `${cores}`, `${sides}`, cpu, state];
}

function machineRow(machine: Machine): string[] {
  const { name, end, live = '-', shadow = '-', generation, waiting = '-', memoryMiB, keeper } = machine;
  const isProtected = machine.protected ? 'yes' : 'NO';
  if (end)
    return [name, '-', '-', '-', '-', '-', '-', `over: ${end.reason} ${end.status} ${end.detail}`.trim()];
  const kept = keeper?.split(', ').slice(0, 2).join(', ') ?? 'NOBODY';
  return [name, live, shadow, isProtected, `${generation}`, `${memoryMiB} MiB`, kept, waiting];
}

function table(view: ClusterView): string {
  const hosts = [...view.hosts.values()].sort((a, b) => a.name.localeCompare(b.name)).map(hostRow);
  const machines = machinesOf(view).map(machineRow);
  const lines = aligned([['host', 'address', 'free', 'cores', 'sides', 'CPU', 'state'], ...hosts]);
  const titles = [
    'machine',
    'live on',
    'shadow on',
    'protected',
    'generation',
    'memory',
    'kept by',
    'waits for',
  ];
  return [...lines, '', ...aligned([titles, ...machines])].join('\n');
}

/** True when a machine is not protected. */
function print(view: ClusterView, flags: Flags): boolean {
  const machines = machinesOf(view);
  const json = () => JSON.stringify({ version: 1, hosts: [...view.hosts.values()], machines });
  process.stdout.write(`${flags.json ? json() : table(view)}\n`);
  return machines.some((machine) => !machine.end && !machine.protected);
}

/** `lockstep hosts`: 0 when every machine is protected, 1 otherwise. */
export default async function hosts(flags: Flags): Promise<number> {
  const etcd = await cluster(etcdOptions(flags));
  try {
    if (flags.watch === undefined) return Number(print(await etcd.view(), flags));
    for (;;) {
      // What is watched is watched also while etcd is away.
      const view = await etcd.view().catch((error: Error) => say(flags, error.message));
      if (view) print(view, flags);
      await sleep((flags.watch === true ? 1 : flags.watch) * 1000);
    }
  } finally {
    etcd.close();
  }
}
