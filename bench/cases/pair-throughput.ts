/**
 * What a shadow costs in throughput: redis under clients who make a fixed number of writes a second, in a machine
 * with a shadow and in one without. The rate leaves both sides, who share this host's cores, room; the CPU time that
 * a write takes tells the rest.
 */
import { execFile } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { redisServer } from '../../test/helpers/redis-server.js';
import type { Case, Row } from '../lib/case.js';
import { inTurn, ratios, summarise } from '../lib/measure.js';
import type { PairLoadJob, PairLoadReport } from '../lib/pair-load.js';

const CHILD = fileURLToPath(new URL('../lib/pair-load.ts', import.meta.url));
const LIMIT_MS = 60_000;
const CLIENTS = 50;
/** Writes a second. */
const RATES = [1000, 4000];
const SECONDS = 6;

async function underLoad(job: PairLoadJob): Promise<PairLoadReport> {
  const argv = ['--net', process.execPath, '--import=tsx', CHILD, JSON.stringify(job)];
  mkdirSync(job.directory, { recursive: true });
  try {
    const { stdout } = await promisify(execFile)('unshare', argv, { timeout: LIMIT_MS });
    return JSON.parse(stdout);
  } finally {
    rmSync(job.directory, { recursive: true, force: true });
  }
}

export const pairThroughput: Case = {
  name: 'pair-throughput',
  about: 'throughput of a pair against the same machine without a shadow, at fixed rates',
  minutes: 1.5,
  run: async ({ directory, pairs, quick, progress, timer }) => {
    const own = join(directory, 'pair-throughput');
    mkdirSync(own, { recursive: true });
    const argv = redisServer(own);
    const rows: Row[] = [];
    const notes: string[] = [];
    for (const rate of RATES) {
      const taken = { alone: [] as PairLoadReport[], pair: [] as PairLoadReport[] };
      const arm = (kind: keyof typeof taken) => async () => {
        const job = { argv, directory: join(own, 'sides'), clients: CLIENTS, rate };
        const report = await underLoad({ ...job, shadowed: kind === 'pair', seconds: quick ? 1 : SECONDS });
        taken[kind].push(report);
        return 1e6 / report.throughput;
      };
      const timeUs = await inTurn(
        { alone: arm('alone'), pair: arm('pair') },
        {
          rounds: pairs,
          timeUp: timer(RATES.length),
          progress: (done, of) => progress(`pair-throughput: ${rate} a second: run ${done} of ${of}`),
        },
      );
      rows.push({
        budget: 'pair / machine alone, at a fixed rate',
        what: `redis SET, ${CLIENTS} clients, ${rate} writes a second asked for: time for a write`,
        ours: { unit: 'us', value: summarise(timeUs.pair) },
        peer: { unit: 'us', value: summarise(timeUs.alone) },
        ratio: summarise(ratios(timeUs.pair, timeUs.alone)),
        limit: 1 / 0.95,
      });
      const us = (kind: keyof typeof taken, part: 'primaryUs' | 'primaryThreadUs' | 'shadowUs') =>
        summarise(taken[kind].map((report) => report[part])).median.toFixed(0);
      notes.push(
        `pair-throughput, ${rate} a second: CPU time for a write: primary ${us('pair', 'primaryUs')} us (its busiest thread ${us('pair', 'primaryThreadUs')}), alone ${us('alone', 'primaryUs')} us (${us('alone', 'primaryThreadUs')}), shadow ${us('pair', 'shadowUs')} us.`,
      );
    }
    return { rows, notes };
  },
};
