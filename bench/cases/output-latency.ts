/** What a shadow adds to the answer of a program: the same requests to a pair and to a side that is alone. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ConsoleClient, Image } from '../../lib/index.js';
import type { Case } from '../lib/case.js';
import { percentile, within } from '../lib/measure.js';
import { startPair } from '../lib/pair.js';
import { BUSYBOX } from '../lib/programs.js';
import { vmwareLatency } from '../lib/vmware-ft.js';

const LIMIT_MS = 10_000;
/** 100 requests a second to each of the two. */
const GAP_MS = 5;

/** Sends a line and waits for it to come back; microseconds. */
function ask(client: ConsoleClient): Promise<number> {
  return new Promise((resolve) => {
    const begun = performance.now();
    client.stdout.once('data', () => resolve((performance.now() - begun) * 1000));
    client.stdin.write('a line of some length\n');
  });
}

export const outputLatency: Case = {
  name: 'output-latency',
  about: 'output latency that a shadow adds',
  minutes: 0.4,
  run: async ({ directory, progress, quick }) => {
    const image = join(directory, 'latency.image');
    await (await Image.fromProgram({ argv: [BUSYBOX, 'cat'] })).write(image, { force: true });
    const seconds = quick ? 3 : 15;
    const alone = await startPair(join(directory, 'alone'), image);
    try {
      const both = await startPair(join(directory, 'both'), image);
      try {
        alone.shadow.kill();
        await within(LIMIT_MS, 'going on alone', alone.primary.notice('alone'), () => {});
        const samples = { alone: [] as number[], both: [] as number[] };
        const warmUp = 50;
        const requests = warmUp + (seconds * 1000) / (2 * GAP_MS);
        for (let i = 0; i < requests; i++) {
          if (i % 100 === 0) progress(`output-latency: request ${i} of ${requests}`);
          for (const [name, pair] of [
            ['alone', alone],
            ['both', both],
          ] as const) {
            const us = await within(LIMIT_MS, 'an answer', ask(pair.client), () => {});
            if (i >= warmUp) samples[name].push(us);
            await sleep(GAP_MS);
          }
        }
        const added = (percent: number) =>
          percentile(samples.both, percent) - percentile(samples.alone, percent);
        const row = (percent: number, limit: number) => ({
          budget: `added output latency, p${percent}`,
          what: `busybox cat echoes a line, ${1000 / GAP_MS / 2} a second; protected ${percentile(samples.both, percent).toFixed(0)} us, alone ${percentile(samples.alone, percent).toFixed(0)} us`,
          ours: { unit: 'us' as const, value: added(percent) },
          limit,
        });
        return { rows: [row(50, 150), row(99, 2000)], notes: [vmwareLatency] };
      } finally {
        await both.end();
      }
    } finally {
      await alone.end();
    }
  },
};
