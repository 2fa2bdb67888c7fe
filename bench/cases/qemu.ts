/** The nearest equal work in QEMU: the same bytes, unrecorded, recorded by -icount rr=record, and replayed. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { computeCode, realMode, serialCode } from '../lib/bare-guests.js';
import type { Case, Row, Settings } from '../lib/case.js';
import { inTurn, ratios, summarise } from '../lib/measure.js';
import { findQemu, timeQemu, writeBios } from '../lib/qemu.js';
import { Guest } from '../lib/workload.js';

interface Kind {
  name: string;
  what: string;
  code: (count: number) => Uint8Array;
  /** What QEMU does in about a second, and what we do: guest code at CPL 0 may be emulated here. */
  theirs: number;
  ours: number;
}

const KINDS: Kind[] = [
  {
    name: 'compute',
    what: 'a counted loop in real mode',
    code: computeCode,
    theirs: 120_000_000,
    ours: 200_000,
  },
  {
    name: 'serial',
    what: 'bytes to a 16550, one OUT each',
    code: serialCode,
    theirs: 1_000_000,
    ours: 60_000,
  },
];

async function compare(kind: Kind, qemu: string, settings: Settings): Promise<{ rows: Row[]; note: string }> {
  const { directory, pairs, progress, quick, timer } = settings;
  const timeUp = timer(KINDS.length);
  const { name, what, code } = kind;
  const scale = quick ? 0.3 : 1;
  const theirCount = Math.round(kind.theirs * scale);
  const ourCount = Math.round(kind.ours * scale);
  const bios = join(directory, `${name}.bios`);
  const log = join(directory, `${name}.rr`);
  writeBios(bios, code(theirCount));
  const empty = join(directory, 'empty.bios');
  writeBios(empty, code(1));
  const guest = Guest.bare(`qemu-${name}`, await realMode(code(ourCount)), directory);
  const emptyLog = join(directory, 'empty.rr');
  await timeQemu(qemu, bios, 'record', log);
  await guest.record();
  const taken = await inTurn(
    {
      theirPlain: () => timeQemu(qemu, bios, 'plain', log),
      theirRecord: () => timeQemu(qemu, bios, 'record', log),
      theirReplay: () => timeQemu(qemu, bios, 'replay', log),
      theirStart: () => timeQemu(qemu, empty, 'record', emptyLog),
      ourPlain: async () => (await guest.run()).ms,
      ourRecord: async () => (await guest.record()).ms,
      ourReplay: async () => (await guest.replay()).ms,
    },
    {
      rounds: Math.min(pairs, 3),
      timeUp,
      progress: (done, of) => progress(`qemu: ${name}, run ${done} of ${of}`),
    },
  );
  // QEMU's own start is not the guest's time.
  const start = summarise(taken.theirStart).median;
  const net = (samples: number[]) => samples.map((ms) => ms - start);
  const theirs = {
    plain: net(taken.theirPlain),
    record: net(taken.theirRecord),
    replay: net(taken.theirReplay),
  };
  const slower = (ours: number[], peer: number[]) => ({
    ours: { unit: 'x' as const, value: summarise(ratios(ours, peer)) },
  });
  const row = (budget: string, mine: number[], myPeer: number[], its: number[], itsPeer: number[]): Row => {
    const { ours } = slower(mine, myPeer);
    const { ours: peer } = slower(its, itsPeer);
    return { budget, what, ours, peer, ratio: ours.value.median / peer.value.median };
  };
  const each = (samples: number[], count: number) => ((summarise(samples).median * 1e6) / count).toFixed(1);
  return {
    rows: [
      row(
        'recorded / unrecorded, peer QEMU rr',
        taken.ourRecord,
        taken.ourPlain,
        theirs.record,
        theirs.plain,
      ),
      row('replay / record, peer QEMU rr', taken.ourReplay, taken.ourRecord, theirs.replay, theirs.record),
    ],
    note: `QEMU, ${what}: a turn takes ${each(theirs.plain, theirCount)} ns unrecorded, ${each(theirs.record, theirCount)} recorded, ${each(theirs.replay, theirCount)} replayed (TCG, start-up of ${start.toFixed(0)} ms taken off); here ${each(taken.ourPlain, ourCount)}, ${each(taken.ourRecord, ourCount)}, ${each(taken.ourReplay, ourCount)} ns as a bare guest at CPL 0, which this host may emulate. Programs run at CPL 3 at native speed: see "guest / host".`,
  };
}

export const qemu: Case = {
  name: 'qemu',
  about: "QEMU's -icount rr=record and rr=replay on the nearest equal work",
  minutes: 1.4,
  run: async (settings) => {
    const path = findQemu();
    if (path === null) {
      const skipped = 'qemu-system-x86_64 is not installed';
      const hint = `${skipped}: apt-get install qemu-system-x86, and run again with --only qemu.`;
      return { rows: [{ budget: 'peer QEMU rr', what: '-', skipped }], notes: [hint] };
    }
    const version = execFileSync(path, ['--version'], { encoding: 'utf8' }).split('\n')[0] ?? '';
    const rows: Row[] = [];
    const notes = [`Peer: ${version}, TCG, -icount shift=auto.`];
    for (const kind of KINDS) {
      const one = await compare(kind, path, settings);
      rows.push(...one.rows);
      notes.push(one.note);
    }
    return { rows, notes };
  },
};
