/** The plug pulled under clients of redis: Debian's server in a pair, joined to the network by a bridge. */
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { printedRandom, scratch } from './helpers/command.js';
import { patience, times } from './helpers/pace.js';
import type { Random } from './helpers/random.js';
import { redisServer } from './helpers/redis-server.js';
import { replayKicked } from './helpers/replays.js';
import { type UnplugJob, unplugOnce } from './helpers/unplug.js';

async function unplug(t: ExecutionContext, random: Random, victim: UnplugJob['victim']): Promise<void> {
  const directory = scratch(t);
  const job: UnplugJob = {
    argv: redisServer(directory),
    directory,
    victim,
    clients: 50,
    beforeMs: patience(random.between(50, 1000)),
    afterMs: patience(500),
  };
  const report = await unplugOnce(job);
  t.log(
    `${victim} killed after ${job.beforeMs} ms: ${report.acknowledged} writes, nobody answered for ${report.servicePauseMs.toFixed(0)} ms, longest wait ${report.longestWaitMs.toFixed(0)} ms`,
  );
  t.deepEqual(report.troubles, []);
  t.is(report.missing, 0);
  t.is(report.survivor, 'status 0');
  t.true(report.acknowledged > 2 * job.clients);
  const survivor = victim === 'primary' ? 'shadow' : 'primary';
  for (const one of await replayKicked(join(directory, `${survivor}.log`), 2, random)) {
    t.is(one.divergence, null, JSON.stringify(one));
    t.is(one.status, 0);
  }
  for (const name of readdirSync(directory)) rmSync(join(directory, name), { recursive: true });
}

test.serial(
  'a killed primary: clients keep their connections, and no acknowledged write is lost',
  async (t) => {
    const random = printedRandom(t);
    for (let i = 0; i < times(6); i++) await unplug(t, random, 'primary');
  },
);

test.serial('a killed shadow: the primary goes on alone, and no client notices', async (t) => {
  const random = printedRandom(t);
  for (let i = 0; i < times(2); i++) await unplug(t, random, 'shadow');
});
