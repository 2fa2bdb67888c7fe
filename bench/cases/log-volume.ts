/** How large logs are: 1.1 bytes per byte of input and 8 per event, before compression. */
import { statSync } from 'node:fs';
import type { Case, Row } from '../lib/case.js';
import { answerLines, readClock, sumLines } from '../lib/programs.js';
import { Guest } from '../lib/workload.js';

const count = (amount: number) => amount.toLocaleString('en-US');

export const logVolume: Case = {
  name: 'log',
  about: 'log bytes per event and per byte of input',
  minutes: 0.5,
  run: async ({ directory, progress, quick }) => {
    const scale = quick ? 1 : 10;
    const rows: Row[] = [];
    for (const work of [
      sumLines(directory, 20_000 * scale),
      answerLines(2_000 * scale),
      readClock(200_000 * scale),
    ]) {
      progress(`log: ${work.name}`);
      const guest = await Guest.prepare(work, directory);
      const { stats } = await guest.record();
      const { events, logInputBytes: input, logEventBytes, logDigestBytes, logFrameBytes } = stats;
      const allowed = 1.1 * input + 8 * events;
      const perEvent = (logEventBytes - input) / events;
      rows.push({
        budget: 'log, bytes against 1.1 x input + 8 x events',
        what: `${work.name}: ${count(events)} events, ${count(input)} B of input; ${perEvent.toFixed(1)} B an event beside its input`,
        ours: { unit: 'B', value: logEventBytes },
        peer: { unit: 'B', value: Math.round(allowed) },
        ratio: logEventBytes / allowed,
        limit: 1,
      });
      rows.push({
        budget: 'log, digests and compression',
        what: `${work.name}: digests ${count(logDigestBytes)} B; frames after compression ${count(logFrameBytes)} B; file with image ${count(statSync(guest.log).size)} B`,
        ours: { unit: 'B', value: logFrameBytes },
        peer: { unit: 'B', value: logEventBytes + logDigestBytes },
        ratio: logFrameBytes / (logEventBytes + logDigestBytes),
      });
    }
    return { rows };
  },
};
