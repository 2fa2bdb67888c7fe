/** Snapshots and forks of a program that fills 256 MiB: how soon they go on, and what they hold. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Image, Machine } from '../../lib/index.js';
import type { Case, Row } from '../lib/case.js';
import { inTurn, summarise } from '../lib/measure.js';

const MEMORY_MIB = 256;
const FORKS = 100;
/** Strings of a page each, no two alike; then it answers with any of them. */
const FILL = `collectgarbage("stop")
  local t = {}
  for i = 1, 50000 do t[i] = string.format("%08d", i):rep(512) end
  print("ready") io.stdout:flush()
  for line in io.lines() do print(t[tonumber(line)]:sub(1, 8)) io.stdout:flush() end`;

async function answer(machine: Machine, asked: number): Promise<void> {
  const said = new Promise<string>((resolve) => machine.stdout.once('data', (chunk) => resolve(`${chunk}`)));
  machine.stdin.write(`${asked}\n`);
  await machine.start();
  const text = await said;
  if (text.trim() !== String(asked).padStart(8, '0')) throw new Error(`asked for ${asked}, it said ${text}`);
}

/** What this process holds, in bytes: all, and of shared pages its part. */
function held(): { resident: number; proportional: number } {
  const text = readFileSync('/proc/self/smaps_rollup', 'utf8');
  const of = (name: string) => Number(new RegExp(`^${name}: +(\\d+)`, 'm').exec(text)?.[1]) * 1024;
  return { resident: of('Rss'), proportional: of('Pss') };
}

const timed = async (work: () => Promise<unknown>): Promise<number> => {
  const begun = performance.now();
  await work();
  return performance.now() - begun;
};

async function holdForks(template: Machine): Promise<{ each: number; all: ReturnType<typeof held> }> {
  const before = held();
  const forks: Machine[] = [];
  try {
    for (let i = 1; i <= FORKS; i++) {
      const fork = await template.fork({ stderr: 'ignore' });
      forks.push(fork);
      await answer(fork, 400 * i);
    }
    const all = held();
    return { each: (all.proportional - before.proportional) / FORKS, all };
  } finally {
    await Promise.all(forks.map((fork) => fork.close()));
  }
}

export const snapshot: Case = {
  name: 'snapshot',
  about: 'snapshots of 256 MiB: time to go on from one, and from a fork; what 100 forks hold',
  minutes: 0.5,
  run: async ({ directory, pairs, progress, timer }) => {
    const path = join(directory, 'bench.snapshot');
    progress('snapshot: filling a machine');
    const first = await Machine.create(
      await Image.fromProgram({ argv: ['lua5.4', '-e', FILL], memoryMiB: MEMORY_MIB }),
    );
    const ready = new Promise((resolve) => first.stdout.once('data', resolve));
    await first.start();
    await ready;
    let contentBytes = 0;
    const takenMs = await timed(async () => {
      contentBytes = (await first.snapshot(path, { force: true })).contentBytes;
    });
    await first.close();
    const template = await Machine.restore(path);
    let asked = 0;
    // The template stands still; each restored machine and each fork answers once.
    const once = async (make: () => Promise<Machine>) => {
      let machine: Machine | undefined;
      const ms = await timed(async () => {
        machine = await make();
      });
      asked = (asked + 97) % 50_000;
      const answeredMs = await timed(() => answer(machine as Machine, asked));
      await machine?.close();
      return { ms, answeredMs };
    };
    const answered: number[] = [];
    const samples = await inTurn(
      {
        restore: async () => {
          const { ms, answeredMs } = await once(() => Machine.restore(path));
          return ms + answeredMs;
        },
        fork: async () => {
          const { ms, answeredMs } = await once(() => template.fork());
          answered.push(ms + answeredMs);
          return ms;
        },
      },
      {
        rounds: 5 * pairs,
        timeUp: timer(1),
        progress: (done, of) => progress(`snapshot: start ${done} of ${of}`),
      },
    );
    const { each, all } = await holdForks(template);
    await template.close();
    const row = (what: string, ours: Row['ours'], limit?: number): Row => ({
      budget: 'snapshots and forks',
      what,
      ours,
      limit,
    });
    const ms = (values: number[]): Row['ours'] => ({ unit: 'ms', value: summarise(values) });
    const mib = Math.round(contentBytes / 2 ** 20);
    return {
      rows: [
        row(`Machine.restore of ${mib} MiB, to its first answer`, ms(samples.restore), 30),
        row('Machine.fork of it', ms(samples.fork), 5),
        row('the same, to its first answer', ms(answered)),
        row(`what each of ${FORKS} forks adds to this process`, { unit: 'B', value: Math.round(each) }),
        row('writing the snapshot, while the guest stands still', { unit: 'ms', value: takenMs }),
      ],
      notes: [
        `With ${FORKS} forks of a machine of ${mib} MiB running, this process holds ` +
          `${Math.round(all.proportional / 2 ** 20)} MiB (Pss); its resident set, which counts a shared page once ` +
          `for each fork that has read it, is ${Math.round(all.resident / 2 ** 20)} MiB.`,
      ],
    };
  },
};
