/** What a guest that does nothing puts into its log. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Image, type Machine, record } from '../../lib/index.js';
import type { Case, Row } from '../lib/case.js';
import { BUSYBOX } from '../lib/programs.js';

const GUESTS = [
  {
    name: 'sleeper',
    what: 'busybox tail -f: wakes once a second',
    argv: [BUSYBOX, 'tail', '-f', '/dev/null'],
  },
  { name: 'reader', what: 'busybox cat: blocked on its input', argv: [BUSYBOX, 'cat'] },
];

export const idle: Case = {
  name: 'idle',
  about: 'log rate of idle guests',
  minutes: 0.4,
  run: async ({ directory, progress, quick }) => {
    const seconds = quick ? 4 : 21;
    const machines: Machine[] = [];
    try {
      for (const { name, argv } of GUESTS) {
        const image = await Image.fromProgram({ argv });
        const log = join(directory, `idle-${name}.log`);
        machines.push(await record(image, { log, force: true, stdout: 'ignore', stderr: 'inherit' }));
      }
      await sleep(1000);
      const before = machines.map((machine) => machine.stats());
      const begun = performance.now();
      progress(`idle: watching for ${seconds} s`);
      await sleep(seconds * 1000);
      const passed = (performance.now() - begun) / 1000;
      const rows: Row[] = GUESTS.map(({ what }, index) => {
        const [now, then] = [(machines[index] as Machine).stats(), before[index]];
        const bits = (now.logFileBytes - (then?.logFileBytes ?? 0)) * 8;
        return {
          budget: 'log, idle guest',
          what: `${what}; ${now.events - (then?.events ?? 0)} events in ${passed.toFixed(0)} s`,
          ours: { unit: 'Mbit/s', value: bits / passed / 1e6 },
          limit: 0.05,
        };
      });
      return { rows };
    } finally {
      await Promise.all(machines.map((machine) => machine.close()));
    }
  },
};
