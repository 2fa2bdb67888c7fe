/** Images over a line of 10 Mbit/s: how much of one has come when its program gives its first answer. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { TEN_MBIT } from '../../test/helpers/thin-line.js';
import type { Case, Row } from '../lib/case.js';
import { within } from '../lib/measure.js';
import type { StreamJob, StreamReport } from '../lib/stream-child.js';
import { STREAMED, type Streamed } from '../lib/stream-programs.js';

const CHILD = fileURLToPath(new URL('../lib/stream-child.ts', import.meta.url));
const LIMIT_MS = 400_000;
/** Of a program's time past the first answer, against its time locally. */
const SLOWER_MAX = 1 / 0.9;
const FAULTS_LEFT_MAX = 0.03;

async function report(job: StreamJob): Promise<StreamReport> {
  const argv = ['--net', process.execPath, '--import=tsx', CHILD, JSON.stringify(job)];
  const child = spawn('unshare', argv, { stdio: ['ignore', 'pipe', 'inherit'] });
  let said = '';
  child.stdout.on('data', (chunk: Buffer) => {
    said += chunk;
  });
  const over = once(child, 'close');
  const [status] = await within(LIMIT_MS, `streaming ${job.name}`, over, () => child.kill('SIGKILL'));
  if (status !== 0) throw new Error(`streaming ${job.name} ended with ${status}`);
  return JSON.parse(said) as StreamReport;
}

function rows(
  { name, what, shareMax }: Streamed,
  { learned, another, unlearned, local }: StreamReport,
): Row[] {
  const wholeMs = (learned.bytesTotal / TEN_MBIT) * 1000;
  const row = (text: string, rest: Omit<Row, 'budget' | 'what'>): Row => ({
    budget: `stream, ${name}`,
    what: text,
    ...rest,
  });
  return [
    row(`${what}: bytes that had come, of ${(learned.bytesTotal / 2 ** 20).toFixed(1)} MiB`, {
      ours: { unit: 'B', value: learned.bytes },
      ratio: learned.bytes / learned.bytesTotal,
      limit: shareMax,
    }),
    row('time to it, against the whole download', {
      ours: { unit: 'ms', value: learned.ms },
      peer: { unit: 'ms', value: wholeMs },
      ratio: learned.ms / wholeMs,
    }),
    row('time to it, against an order that nobody learned', {
      ours: { unit: 'ms', value: learned.ms },
      peer: { unit: 'ms', value: unlearned.ms },
      ratio: learned.ms / unlearned.ms,
    }),
    row('blocks it stood still for, against the order that nobody learned', {
      ours: { unit: '', value: learned.faults },
      peer: { unit: '', value: unlearned.faults },
      ratio: learned.faults / Math.max(unlearned.faults, 1),
      limit: FAULTS_LEFT_MAX,
    }),
    ...(another === undefined
      ? []
      : [
          row('the same, asked for another key than was learned', {
            ours: { unit: '', value: another.faults },
            peer: { unit: '', value: unlearned.faults },
            ratio: another.faults / Math.max(unlearned.faults, 1),
          }),
        ]),
    row('time to it from a file that is here', { ours: { unit: 'ms', value: local.ms } }),
    ...(learned.work === undefined
      ? []
      : [row('work past it, in turn with a file that is here', { ratio: learned.work, limit: SLOWER_MAX })]),
  ];
}

export const stream: Case = {
  name: 'stream',
  about: 'programs that start before their download over 10 Mbit/s ends, learned and not',
  minutes: 8,
  run: async ({ directory, progress, quick }) => {
    if (process.getuid?.() !== 0)
      return { rows: [{ budget: 'stream', what: 'all of it', skipped: 'needs root' }] };
    const all: Row[] = [];
    for (const program of STREAMED) {
      progress(`stream: ${program.name}`);
      const here = join(directory, `stream-${program.name}`);
      mkdirSync(here, { recursive: true });
      all.push(...rows(program, await report({ name: program.name, directory: here, quick })));
      rmSync(here, { recursive: true, force: true });
    }
    return {
      rows: all,
      notes: [
        'The whole download: all bytes at 10 Mbit/s. Python and busybox are asked something else than they were learned with, nginx for its first page.',
      ],
    };
  },
};
