/**
 * A machine on a network under 50 clients of redis: killed, cut off, and handed over on purpose, again and again. How
 * long nobody is answered, how long each client waits, and when the machine has a shadow again.
 */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type ChainReport, type ChainSettings, UnplugChain } from '../../test/helpers/unplug-chain.js';
import type { Case, Outcome, Row } from '../lib/case.js';
import { percentile } from '../lib/measure.js';
import { vmwareFailover, vmwareRows } from '../lib/vmware-ft.js';

const CLIENTS = 50;
/** A thousand writes a second: somebody asks anew soon after the machine is back. */
const THINK_MS_MAX = 100;
const TIMES = 20;
/** Fewer say nothing of a p99. */
const TIMES_MIN = 5;

type Failure = 'kill' | 'cut' | 'hand-over';

/** What nobody may wait for longer, in ms: all of them, and one client. */
const LIMITS: Record<Failure, { p50?: number; p99: number; each?: number }> = {
  kill: { p50: 50, p99: 250, each: 250 },
  cut: { p99: 380, each: 450 },
  'hand-over': { p99: 30 },
};

interface Setting extends Pick<ChainSettings, 'arbiter' | 'heard'> {
  what: string;
  failures: Failure[];
}

// With a directory for an arbiter that both sides reach, whoever asks first survives a cut, with clients or without.
const SETTINGS: Setting[] = [
  { what: 'arbiter etcd, a switch that learns', arbiter: 'etcd', failures: ['kill', 'cut', 'hand-over'] },
  {
    what: 'arbiter etcd, a switch that floods',
    arbiter: 'etcd',
    heard: true,
    failures: ['kill', 'cut', 'hand-over'],
  },
  { what: 'arbiter file, a switch that learns', arbiter: 'file', failures: ['kill', 'hand-over'] },
];

function fail(chain: UnplugChain, failure: Failure, beforeMs: number): Promise<ChainReport> {
  if (failure === 'hand-over') return chain.handOver(beforeMs);
  return chain.unplug({ kind: failure, victim: 'primary', beforeMs });
}

function rowsOf(failure: Failure, setting: string, reports: ChainReport[]): Row[] {
  const { p50, p99, each } = LIMITS[failure];
  const what = `${failure} of the live side, ${reports.length} times; ${setting}`;
  const row = (budget: string, values: number[], percent: number, limit?: number): Row => ({
    budget: `${budget}, ${percent === 100 ? 'max' : `p${percent}`}`,
    what,
    ours: { unit: 'ms', value: percentile(values, percent) },
    limit,
  });
  const service = reports.map(({ servicePauseMs }) => servicePauseMs);
  const waits = reports.flatMap(({ waitsMs }) => waitsMs);
  return [
    row('service pause', service, 50, p50),
    row('service pause', service, 90),
    row('service pause', service, 99, p99),
    row('service pause', service, 100),
    row('per-connection pause', waits, 50),
    row('per-connection pause', waits, 90),
    row('per-connection pause', waits, 99, each),
    row('per-connection pause', waits, 100),
  ];
}

/** From the failure on: the median of when each notice was given. */
function partsOf(failure: Failure, setting: string, reports: ChainReport[]): string {
  const parts = (['suspected', 'claim-won', 'live', 'first-output'] as const).flatMap((part) => {
    const times = reports.flatMap(({ partsMs }) => partsMs[part] ?? []);
    return times.length > 0
      ? [`${part} ${percentile(times, 50).toFixed(1)} (p99 ${percentile(times, 99).toFixed(1)})`]
      : [];
  });
  const joins = reports.map(({ joinMs }) => joinMs);
  return `${failure}, ${setting}: ms after it ${parts.join(', ')}; the next shadow stood by ${percentile(joins, 50).toFixed(0)} ms after its start (max ${Math.max(...joins).toFixed(0)}).`;
}

export const failoverTime: Case = {
  name: 'failover-time',
  about: 'kill, cut and hand-over on a network, as clients see them',
  minutes: 7,
  run: async ({ directory, progress, quick, timer }): Promise<Outcome> => {
    const outcome = { rows: [] as Row[], notes: [] as string[] };
    const parts = SETTINGS.reduce((sum, { failures }) => sum + failures.length, 0);
    for (const { what, failures, ...settings } of SETTINGS) {
      const own = join(directory, 'failover-time');
      mkdirSync(own, { recursive: true });
      const chain = await UnplugChain.start({
        ...settings,
        directory: own,
        seed: 1,
        clients: CLIENTS,
        thinkMsMax: THINK_MS_MAX,
      });
      try {
        for (const failure of failures) {
          const timeUp = timer(parts);
          const reports: ChainReport[] = [];
          const times = quick ? 2 : TIMES;
          for (let i = 0; i < times && !(i >= TIMES_MIN && timeUp()); i++) {
            progress(`failover-time: ${what}: ${failure} ${i + 1} of ${times}`);
            // Spread over the beat of heartbeats.
            reports.push(await fail(chain, failure, 200 + ((i * 37.3) % 150)));
          }
          outcome.rows.push(...rowsOf(failure, what, reports));
          outcome.notes.push(partsOf(failure, what, reports));
        }
        await chain.finish();
      } finally {
        await chain.end();
        rmSync(own, { recursive: true, force: true });
      }
    }
    outcome.rows.push(...vmwareRows);
    outcome.notes.push(
      `Of the per-connection pause, some 207 ms (or 415) are the client's own: its kernel sends a lost request again only then. Where the switch floods, the new side has heard the request.`,
      vmwareFailover,
    );
    return outcome;
  },
};
