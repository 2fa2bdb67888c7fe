/** What a digest costs: of registers and devices, and for every page that was dirtied since the last one. */

import { clockLoop, dirtyLoop } from '../lib/bare-guests.js';
import type { Case, Row } from '../lib/case.js';
import { inTurn, summarise } from '../lib/measure.js';
import { Guest } from '../lib/workload.js';

const PAGES = 512;

export const digestCost: Case = {
  name: 'digest',
  about: 'one digest, and one dirtied page in it',
  minutes: 0.4,
  run: async ({ directory, pairs, progress, quick, timer }) => {
    const timeUp = timer(1);
    const digests = quick ? 5_000 : 20_000;
    const rounds = quick ? 40 : 150;
    const still = Guest.bare('still', await clockLoop(digests), directory);
    const dirty = Guest.bare('dirty', await dirtyLoop(rounds, PAGES), directory);
    const taken = await inTurn(
      {
        still: async () => (await still.record({ digestEvery: 1_000_000 })).ms,
        stillDigested: async () => (await still.record({ digestEvery: 1 })).ms,
        dirty: async () => (await dirty.run()).ms,
        dirtyDigested: async () => (await dirty.record({ digestEvery: 1 })).ms,
      },
      {
        rounds: pairs,
        timeUp,
        progress: (done, of) => progress(`digest: run ${done} of ${of}`),
      },
    );
    const perDigest = taken.stillDigested.map(
      (ms, i) => ((ms - (taken.still[i] as number)) * 1000) / digests,
    );
    // A digest's fixed part is taken off; left is the write fault, the harvest and the hash.
    const perPage = taken.dirtyDigested.map(
      (ms, i) => (((ms - (taken.dirty[i] as number)) * 1000) / rounds - (perDigest[i] as number)) / PAGES,
    );
    const { stats } = await dirty.record({ digestEvery: 1 });
    const rows: Row[] = [
      {
        budget: 'digest, fixed part',
        what: 'bare guest, a digest at every event, no page dirtied',
        ours: { unit: 'us', value: summarise(perDigest) },
      },
      {
        budget: 'digest, per dirtied page',
        what: `${PAGES} pages an event: write fault, harvest and hash; ${(stats.logDigestBytes / stats.digests / PAGES).toFixed(1)} B a page in the log`,
        ours: { unit: 'us', value: summarise(perPage) },
      },
    ];
    return { rows };
  },
};
