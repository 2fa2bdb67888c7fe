/**
 * What to do about a machine next: a pure function of what stands in etcd. Whoever keeps the machine does it, and
 * looks again. It never makes a second machine of one: sides start from the image only while it is proven that none
 * has faced the world yet, and after that there are only shadows of a side that is live.
 */
import type { ClusterView, HostRecord, MachineView, SideStatus, WantedSide } from './records.js';

/** What a side takes beyond its guest's memory. */
export const OVERHEAD_MIB = 64;

export type Step =
  | { kind: 'start'; side: WantedSide }
  /** End it if it was never armed, and have it say how it ended. */
  | { kind: 'stop'; id: string }
  /** End it if it is still there: what it could win is won by another one, or it is known to be over. */
  | { kind: 'forget'; id: string }
  | { kind: 'lost'; why: string }
  /** Nothing to be done until something changes. */
  | { kind: 'wait'; why: string };

export interface Plan {
  steps: Step[];
  /** The side that faces the world, as far as is known. */
  live?: string;
  protected: boolean;
  /** As {@link MachineView.begun}: to be written down together with the steps. */
  begun: boolean;
}

interface Side {
  id: string;
  wanted: WantedSide;
  status: SideStatus | undefined;
  /** Over, or of an earlier run of its host. */
  dead: boolean;
  /** Nobody says anything about it: dead, or cut off. */
  unheard: boolean;
}

function sidesOf(machine: MachineView, hosts: ClusterView['hosts']): Side[] {
  return [...machine.sides].flatMap(([id, { wanted, status }]) => {
    if (!wanted) return [];
    const host = hosts.get(wanted.host);
    const otherRun = host !== undefined && host.incarnation !== wanted.incarnation;
    const dead = status?.state === 'over' || (otherRun && status === undefined);
    return [{ id, wanted, status, dead, unheard: !dead && !status && !host }];
  });
}

/** Levels are names like x86-64-v2, of which the later has more. */
const atLeast = (model: string, wanted: string) => model.localeCompare(wanted, 'en', { numeric: true }) >= 0;

export interface Choice {
  host?: HostRecord;
  /** Why the others will not do, in a few words each. */
  refused: string[];
}

/** The best host for one more side; `avoid` are those where one failed lately. */
export function chooseHost(
  { spec }: MachineView,
  hosts: ClusterView['hosts'],
  taken: ReadonlySet<string>,
  avoid: ReadonlySet<string> = new Set(),
): Choice {
  const refused: string[] = [];
  const fit: HostRecord[] = [];
  for (const host of hosts.values()) {
    const need = (spec?.memoryMiB ?? 0) + OVERHEAD_MIB;
    const why = taken.has(host.name)
      ? 'has a side of it'
      : host.leaving
        ? 'is leaving'
        : host.memoryFreeMiB < need
          ? `has ${host.memoryFreeMiB} MiB free of ${need}`
          : spec && host.vendor !== spec.vendor
            ? `has a CPU of ${host.vendor}`
            : spec && !atLeast(host.cpuModel, spec.cpuModel)
              ? `has only ${host.cpuModel}`
              : spec?.net && !host.net
                ? 'has no --net'
                : '';
    if (why) refused.push(`${host.name} ${why}`);
    else fit.push(host);
  }
  const load = ({ sides, cores }: HostRecord) => sides / cores;
  fit.sort(
    (a, b) =>
      Number(avoid.has(a.name)) - Number(avoid.has(b.name)) ||
      load(a) - load(b) ||
      b.memoryFreeMiB - a.memoryFreeMiB ||
      a.name.localeCompare(b.name),
  );
  return { host: fit[0], refused };
}

function noHost({ refused }: Choice): Step {
  const list = refused.length > 0 ? `: ${refused.join(', ')}` : ', none is announced';
  return { kind: 'wait', why: `no host for the next side${list}` };
}

export function plan(machine: MachineView, hosts: ClusterView['hosts'], avoid?: ReadonlySet<string>): Plan {
  const sides = sidesOf(machine, hosts);
  const live = sides
    .filter(({ status, dead }) => status?.live && !dead)
    .sort((a, b) => (b.status?.generation ?? 0) - (a.status?.generation ?? 0))[0];
  const begun = machine.begun || sides.some(({ status }) => status?.armed === true);
  const context = { machine, hosts, sides, avoid };
  const steps = !begun ? begin(context) : live ? mend(context, live) : awaitLive(sides);
  return { steps, live: live?.id, protected: live?.status?.protected ?? false, begun };
}

interface Context {
  machine: MachineView;
  hosts: ClusterView['hosts'];
  sides: Side[];
  avoid: ReadonlySet<string> | undefined;
}

/**
 * It cannot be the one that goes on when the live side is lost: it is over, or was armed under an older generation, or
 * was to join another side and came too late. One that was told to join this one may be its shadow at this moment.
 */
function isPast({ dead, wanted, status }: Side, live: SideStatus): boolean {
  if (dead) return true;
  if (status?.generation) return status.generation < live.generation;
  return wanted.generation < live.generation && wanted.join !== live.link;
}

/** One is live: what can never succeed it goes, and where there is no shadow one comes. */
function mend({ machine, hosts, sides, avoid }: Context, live: Side): Step[] {
  const status = live.status as SideStatus;
  const { generation, link } = status;
  const old = sides.filter((side) => side !== live && isPast(side, status));
  const steps: Step[] = old.map(({ id }) => ({ kind: 'forget', id }));
  if (status.protected) return steps;
  const current = sides.filter((side) => side !== live && !old.includes(side));
  // What the live side said may be old already: should this one have joined it meanwhile, it is not ended, and told apart
  // when it is heard again. Until then another one may try.
  for (const { id, wanted } of current.filter(({ unheard }) => unheard))
    if (!wanted.stop) steps.push({ kind: 'stop', id });
  if (current.some(({ unheard }) => !unheard)) return [...steps, { kind: 'wait', why: 'a shadow joins' }];
  if (link === undefined) return [...steps, { kind: 'wait', why: 'the live side does not listen yet' }];
  const choice = chooseHost(machine, hosts, new Set([live.wanted.host]), avoid);
  if (!choice.host) return [...steps, noHost(choice)];
  const { name: host, incarnation } = choice.host;
  const { pair } = status;
  return [
    ...steps,
    { kind: 'start', side: { role: 'shadow', host, incarnation, join: link, pair, generation } },
  ];
}

/** It has run, and nobody says that he runs it now: somebody takes over, or is cut off. Only what is known to be dead is lost. */
function awaitLive(sides: Side[]): Step[] {
  const left = sides.filter(({ dead }) => !dead);
  if (left.length === 0) return [lost(sides)];
  const unheard = left.filter(({ unheard }) => unheard).map(({ wanted }) => wanted.host);
  const why =
    unheard.length > 0 ? `nothing is heard from ${unheard.join(' and ')}` : 'a takeover is under way';
  return [{ kind: 'wait', why }];
}

/**
 * No pair was armed yet, as far as is known. The guest does not run before its first shadow is armed: so a primary that
 * was given none has not run, and one that ended in order tells whether it was armed. Only then all begins anew.
 */
function begin({ machine, hosts, sides, avoid }: Context): Step[] {
  const primary = sides.find(({ wanted }) => wanted.role === 'primary');
  const shadow = sides.find(({ wanted }) => wanted.role === 'shadow');
  const place = (role: WantedSide['role'], join?: string): Step => {
    const taken = new Set([primary, shadow].flatMap((side) => (side ? [side.wanted.host] : [])));
    const choice = chooseHost(machine, hosts, taken, avoid);
    if (!choice.host) return noHost(choice);
    const { name: host, incarnation } = choice.host;
    const pair = role === 'shadow' ? primary?.status?.pair : undefined;
    return { kind: 'start', side: { role, host, incarnation, join, pair, generation: 1 } };
  };
  if (!primary) return shadow ? [{ kind: 'forget', id: shadow.id }] : [place('primary')];
  const bothGo: Step[] = [primary, shadow].flatMap((side) => (side ? [{ kind: 'forget', id: side.id }] : []));
  const waitFor = (side: Side): Step[] => [
    {
      kind: 'wait',
      why: side.unheard ? `nothing is heard from ${side.wanted.host}` : `the ${side.wanted.role} starts`,
    },
  ];
  const end = (side: Side): Step[] => (side.wanted.stop ? waitFor(side) : [{ kind: 'stop', id: side.id }]);
  if (!shadow) {
    if (primary.dead || primary.unheard) return bothGo;
    const { link } = primary.status ?? {};
    return link === undefined || primary.wanted.stop ? waitFor(primary) : [place('shadow', link)];
  }
  if (primary.unheard) return waitFor(primary);
  if (primary.dead) {
    if (!shadow.dead && !shadow.unheard) return end(shadow);
    // A process that was killed may not have come to say that it was armed; its shadow says it too.
    if (/^status /.test(primary.status?.why ?? '') || shadow.status?.state === 'over') return bothGo;
    return shadow.dead ? [lost([primary, shadow])] : waitFor(shadow);
  }
  if (shadow.status?.state === 'over') return [{ kind: 'forget', id: shadow.id }];
  // It may have been armed in the moment in which it was lost: the primary tells, when it has ended.
  if (shadow.dead || shadow.unheard) return end(primary);
  return waitFor(shadow);
}

function lost(sides: Side[]): Step {
  const each = sides.map(({ wanted, status }) => `${wanted.host}: ${status?.why ?? 'ended with its host'}`);
  return { kind: 'lost', why: `both sides are gone (${each.join('; ')})` };
}
