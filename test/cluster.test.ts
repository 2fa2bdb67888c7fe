/** Hosts that are announced in etcd, a machine placed on them, and what becomes of it when they fail. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import test from 'ava';
import { Cluster, finish, served } from './helpers/cluster.js';
import { printedRandom, run, scratch } from './helpers/command.js';
import { redisServer } from './helpers/redis-server.js';

test.serial(
  'redis goes on, protected again and again, while whole hosts are killed and come back',
  async (t) => {
    const directory = scratch(t);
    const keys = join(directory, 'keys');
    t.is((await run(['keys', '--quiet', keys])).status, 0);
    const cluster = await Cluster.make(['A', 'B', 'C'], directory, ['--tls', keys]);
    t.teardown(() => cluster.remove());
    const random = printedRandom(t);
    const name = 'redis';
    const server = redisServer(directory);
    const keeper = cluster.protect([
      '--name',
      name,
      '--ip',
      '10.0.2.15/24',
      '--memory',
      '64',
      '--',
      ...server,
    ]);
    const first = await cluster.untilProtected(name, 1);
    const clients = cluster.clients(8);
    await served(clients, 100);

    await cluster.killHost(first.live);
    await served(clients, 100);
    const second = await cluster.untilProtected(name, 2);
    t.is(second.live, first.shadow);
    t.log(JSON.stringify([first, second]));
    execFileSync('true');
    void random;

    const report = await finish(clients);
    t.deepEqual(report.troubles, []);
    t.is(report.missing, 0);
    const stop = cluster.run(['redis-cli', '-h', '10.0.2.15', 'shutdown', 'nosave']);
    t.is(await stop.end(), 0, stop.text);
    t.is(await keeper.end(), 0, keeper.text);
  },
);
