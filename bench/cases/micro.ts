/** Single calls of the library, by the `benchmark` package. */

import { readFileSync } from 'node:fs';
import Benchmark from 'benchmark';
import { parseElf } from '../../lib/image/elf.js';
import { findSites } from '../../lib/image/sites.js';
import { Image, Machine, Recording } from '../../lib/index.js';
import { decodeTrace } from '../../lib/trace.js';
import { clockLoop } from '../lib/bare-guests.js';
import type { Case, Quantity, Row } from '../lib/case.js';
import { BUSYBOX } from '../lib/programs.js';
import { Guest } from '../lib/workload.js';

const ENTRIES = 1024;
const NOTHING = { stdin: 'ignore', stdout: 'ignore', stderr: 'ignore' } as const;

interface Subject {
  budget: string;
  what: string;
  unit: 'us' | 'ms' | 'ns';
  /** What one call is divided by. */
  of?: number;
  call: () => unknown;
}

const PER_SECOND = { ms: 1e3, us: 1e6, ns: 1e9 };

/** Runs `call` for about `seconds`; a promise is waited for. */
function measure(call: () => unknown, seconds: number): Promise<Benchmark> {
  return new Promise((resolve, reject) => {
    let failure: unknown;
    const waits = call() instanceof Promise;
    const bench = new Benchmark({
      defer: waits,
      maxTime: seconds,
      minSamples: 5,
      async: true,
      fn: waits
        ? (deferred: { resolve(): void }) =>
            (call() as Promise<unknown>).then(
              () => deferred.resolve(),
              (error: unknown) => {
                failure ??= error;
                deferred.resolve();
              },
            )
        : call,
      onComplete: () => (failure || bench.error ? reject(failure ?? bench.error) : resolve(bench)),
    });
    bench.run();
  });
}

function quantity({ stats }: Benchmark, { unit, of = 1 }: Subject): Quantity {
  const scale = PER_SECOND[unit] / of;
  const samples = stats.sample.map((seconds) => seconds * scale);
  const sorted = [...samples].sort((a, b) => a - b);
  const value = {
    median: sorted[sorted.length >> 1] ?? Number.NaN,
    min: Math.min(...samples),
    max: Math.max(...samples),
    count: samples.length,
  };
  return { unit, value };
}

export const micro: Case = {
  name: 'micro',
  about: 'single calls: create, pack, digest, stats, read a log',
  minutes: 0.6,
  run: async ({ directory, progress, quick }) => {
    const events = 20_000;
    const clock = Guest.bare('micro', await clockLoop(events), directory);
    await clock.record();
    const program = await Image.fromProgram({ argv: [BUSYBOX, 'true'] });
    const standing = await Machine.create(program, NOTHING);
    const busybox = parseElf(readFileSync(BUSYBOX), BUSYBOX);
    const words = new BigUint64Array(ENTRIES * 6);
    const subjects: Subject[] = [
      {
        budget: 'pack a program',
        what: 'Image.fromProgram of busybox, warm',
        unit: 'ms',
        call: () => Image.fromProgram({ argv: [BUSYBOX, 'true'] }),
      },
      {
        budget: 'scan a program',
        what: 'findSites of busybox, warm',
        unit: 'ms',
        call: () => findSites(busybox),
      },
      {
        budget: 'make a machine',
        what: 'Machine.create and close, 256 MiB, busybox',
        unit: 'ms',
        call: async () => (await Machine.create(program, NOTHING)).close(),
      },
      {
        budget: 'run a program',
        what: 'create, start, busybox true, close',
        unit: 'ms',
        call: async () => {
          const machine = await Machine.create(program, NOTHING);
          await machine.start();
          await machine.ended;
          await machine.close();
        },
      },
      {
        budget: 'digest of all memory',
        what: 'machine.digest(), 256 MiB, busybox loaded',
        unit: 'ms',
        call: () => standing.digest(),
      },
      { budget: 'statistics', what: 'machine.stats()', unit: 'us', call: () => standing.stats() },
      {
        budget: 'read a log',
        what: `Recording.events(), an event of ${events.toLocaleString('en-US')}`,
        unit: 'us',
        of: events,
        call: async () => {
          const recording = await Recording.open(clock.log);
          for await (const _ of recording.events());
        },
      },
      {
        budget: 'decode a trace',
        what: `one entry of a batch of ${ENTRIES.toLocaleString('en-US')}`,
        unit: 'ns',
        of: ENTRIES,
        call: () => decodeTrace(words, 0),
      },
    ];
    try {
      const rows: Row[] = [];
      for (const subject of subjects) {
        progress(`micro: ${subject.what}`);
        const { budget, what } = subject;
        rows.push({ budget, what, ours: quantity(await measure(subject.call, quick ? 0.5 : 3), subject) });
      }
      return { rows };
    } finally {
      await standing.close();
    }
  },
};
