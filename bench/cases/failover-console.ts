/** kill -9 of the primary to the first new output of the shadow, many times, and where the time goes. */
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ConsolePause, Image } from '../../lib/index.js';
import type { Case, Row } from '../lib/case.js';
import { percentile, summarise, within } from '../lib/measure.js';
import { startPair } from '../lib/pair.js';
import { BUSYBOX } from '../lib/programs.js';

const LIMIT_MS = 20_000;
/** Fewer say nothing of a p99; a machine so busy that these take too long says little anyway. */
const KILLS_MIN = 5;
/** A line every 2 ms: the first answer does not wait for somebody to ask. */
const LINE_MS = 2;

/** The moments after the kill, in the order in which they have to come. */
const PARTS = ['detection', 'claim', 'catch-up', 'first output', 'its way to the client'] as const;
type Part = (typeof PARTS)[number];
const NOTICES: Partial<Record<Part, string>> = {
  detection: 'suspected',
  claim: 'claim-won',
  'catch-up': 'live',
  'first output': 'first-output',
};

interface Kill {
  totalMs: number;
  parts: Record<Part, number>;
}

async function kill(directory: string, image: string, afterMs: number): Promise<Kill> {
  const pair = await startPair(directory, image);
  const { client, primary, shadow } = pair;
  client.stdout.resume();
  let feeding = true;
  const feed = async () => {
    for (let line = 0; feeding; line++) {
      client.stdin.write(`line ${line}\n`);
      await sleep(LINE_MS);
    }
  };
  try {
    const fed = feed();
    await once(client.stdout, 'data');
    await sleep(afterMs);
    const paused = once(client, 'pause') as Promise<[ConsolePause]>;
    const killedUs = primary.kill();
    const [pause] = await within(LIMIT_MS, 'a takeover', paused, () => {});
    // The shadow's notices come through a pipe, and may be behind its output.
    await within(LIMIT_MS, 'the notice of the first output', shadow.notice('first-output'), () => {});
    feeding = false;
    await fed;
    let before = killedUs;
    const parts = {} as Record<Part, number>;
    for (const part of PARTS) {
      const notice = NOTICES[part];
      const timeUs = notice ? (shadow.first.get(notice)?.timeUs ?? before) : pause.resumedUs;
      parts[part] = Math.max(0, timeUs - before) / 1000;
      before = Math.max(before, timeUs);
    }
    return { totalMs: (pause.resumedUs - killedUs) / 1000, parts };
  } finally {
    feeding = false;
    await pair.end();
  }
}

export const failoverConsole: Case = {
  name: 'failover-console',
  about: 'kill -9 of the primary to the first new output at a console',
  minutes: 1.1,
  run: async ({ directory, progress, quick, timer }) => {
    const timeUp = timer(1);
    const image = join(directory, 'failover.image');
    const program = [BUSYBOX, 'awk', '{ n += length($0); print NR, n; fflush() }'];
    await (await Image.fromProgram({ argv: program })).write(image, { force: true });
    const times = quick ? 6 : 30;
    const kills: Kill[] = [];
    for (let i = 0; i < times && !(i >= KILLS_MIN && timeUp()); i++) {
      progress(`failover-console: kill ${i + 1} of ${times}`);
      // Spread over the beat of lines and heartbeats.
      kills.push(await kill(join(directory, `pair-${i}`), image, 100 + ((i * 37.3) % 150)));
    }
    const all = kills.map(({ totalMs }) => totalMs);
    const at = (percent: number) => percentile(all, percent);
    const what = `${kills.length} kills of a primary that answers 500 lines/s`;
    const row = (percent: string, value: number, limit?: number): Row => ({
      budget: `console, kill to first output, ${percent}`,
      what,
      ours: { unit: 'ms', value },
      limit,
    });
    const parts = PARTS.map((part) => {
      const samples = kills.map((one) => one.parts[part]);
      return `${part} ${summarise(samples).median.toFixed(2)} (p90 ${percentile(samples, 90).toFixed(2)}, max ${Math.max(...samples).toFixed(2)})`;
    });
    return {
      rows: [
        row('p50', at(50), 50),
        row('p90', at(90)),
        row('p99', at(99), 250),
        row('max', Math.max(...all)),
      ],
      notes: [`Kill to first output by part, median ms: ${parts.join('; ')}.`],
    };
  },
};
