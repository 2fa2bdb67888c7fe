/** The guest kernel's TCP against the host's, through TAPs and a cable that loses, reorders, duplicates and delays. */
import { randomFillSync } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { printedRandom, scratch } from './helpers/command.js';
import { emulated, times } from './helpers/pace.js';
import { replayKicked } from './helpers/replays.js';
import { transferBothWays } from './helpers/transfers.js';

test('files arrive intact both ways over a bad path, and the recording replays exactly', async (t) => {
  const random = printedRandom(t);
  const directory = scratch(t);
  const bytes = emulated ? 1 << 18 : 3 << 20;
  const file = join(directory, 'file');
  writeFileSync(file, randomFillSync(Buffer.alloc(bytes)));
  const log = join(directory, 'x.log');
  const vices = {
    seed: random.between(0, 2 ** 31),
    loss: 0.01,
    duplicate: 0.01,
    reorder: 0.02,
    delayMs: 10,
    reorderMs: 10,
  };
  const { intact, carried, downloadS, uploadS } = await transferBothWays({
    kind: 'machine',
    vices,
    file,
    bytes,
    directory,
    log,
  });
  t.log(`down ${downloadS.toFixed(1)} s, up ${uploadS.toFixed(1)} s, ${JSON.stringify(carried)}`);
  t.true(intact);
  for (const way of carried) t.true(way.bytes > bytes && way.lost + way.duplicated + way.reordered > 0);
  for (const report of await replayKicked(log, times(4), random)) {
    t.is(report.divergence, null, JSON.stringify(report));
    t.true(report.digests.checked > 1);
  }
});
