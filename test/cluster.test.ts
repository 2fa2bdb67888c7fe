/** Hosts that are announced in etcd, a machine placed on them, and what becomes of it when they fail. */
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Cluster, finish, served } from './helpers/cluster.js';
import { printedRandom, run, scratch } from './helpers/command.js';
import { redisServer } from './helpers/redis-server.js';

const NAME = 'redis';
const CARD = ['--ip', '10.0.2.15/24'];

async function make(t: ExecutionContext, names: string[]): Promise<{ cluster: Cluster; directory: string }> {
  const directory = scratch(t);
  const keys = join(directory, 'keys');
  t.is((await run(['keys', '--quiet', keys])).status, 0);
  const cluster = await Cluster.make(names, directory, ['--tls', keys]);
  t.teardown(() => cluster.remove());
  return { cluster, directory };
}

test.serial(
  'redis goes on, and is protected again, while hosts, sides, cables and keepers fail',
  async (t) => {
    const random = printedRandom(t);
    const { cluster, directory } = await make(t, ['A', 'B', 'C']);
    const program = ['--memory', '64', ...CARD, '--', ...redisServer(directory)];
    let keeper = cluster.protect(['--name', NAME, ...program]);
    let now = await cluster.untilProtected(NAME, 1);
    const clients = cluster.clients(2);
    const t0 = performance.now();
    const work = () => {
      t.log((performance.now() - t0).toFixed(0) + ' ' + JSON.stringify(now));
      return served(clients, random.between(50, 300));
    };
    await work();

    // Everything on the live host dies. The third one gets a shadow.
    const [first, second] = [now.live, now.shadow];
    await cluster.killHost(first);
    await work();
    now = await cluster.untilProtected(NAME, 2);
    const third = ['A', 'B', 'C'].find((one) => one !== first && one !== second) as string;
    t.deepEqual({ ...now }, { live: second, shadow: third });
    await work();

    // The second dies, too, and nobody is left to take a shadow, until the first comes back.
    await cluster.killHost(second);
    await work();
    await cluster.until('it waits for a host', ({ machines }) => /no host/.test(machines[0]?.waiting ?? ''));
    await cluster.startHost(first);
    now = await cluster.untilProtected(NAME, 3);
    t.deepEqual({ ...now }, { live: third, shadow: first });
    await cluster.startHost(second);
    await work();

    // Nobody keeps it while its shadow is killed. Whoever starts next finds it.
    await keeper.kill();
    await cluster.killSide(NAME, 'shadow');
    await work();
    keeper = cluster.protect(['--name', NAME]);
    now = await cluster.untilProtected(NAME, 4);
    t.is(now.live, third);
    await work();

    // The keeper dies and another one is there already. A side's process is killed, and its host is as good as before.
    const heir = cluster.protect(['--name', NAME]);
    await cluster.hears(heir, ({ keeping }) => !keeping);
    await keeper.kill();
    await cluster.killSide(NAME, 'live');
    await work();
    await cluster.hears(heir, ({ keeping }) => keeping);
    now = await cluster.untilProtected(NAME, 5);
    await work();

    // The live host's cable is pulled: what runs there is fenced off, and the host takes shadows again later.
    const cut = now.live;
    cluster.hosts.unplug(cut);
    await work();
    now = await cluster.untilProtected(NAME, 6);
    t.not(now.live, cut);
    t.not(now.shadow, cut);
    cluster.hosts.plug(cut);
    await cluster.until(`${cut} is back, and empty`, ({ hosts }) =>
      hosts.some(({ name, sides }) => name === cut && sides === 0),
    );
    await work();

    // A host that is asked to leave hands over what is live there.
    const leaver = cluster.agents.get(now.live);
    leaver?.child.kill('SIGTERM');
    t.is(await leaver?.end(), 143, leaver?.text);
    await work();
    const heirHost = now.shadow;
    now = await cluster.untilProtected(NAME, 7);
    t.is(now.live, heirHost);
    await work();

    const report = await finish(clients);
    t.log(`${report.acknowledged} writes, the longest wait ${report.longestWaitMs.toFixed(0)} ms`);
    t.deepEqual(report.troubles, []);
    t.is(report.missing, 0);
    const stop = cluster.run(['redis-cli', '-h', '10.0.2.15', 'shutdown', 'nosave']);
    t.is(await stop.end(), 0, stop.text);
    t.is(await heir.end(), 0, heir.text);
    const { machines } = await cluster.until('all is over', ({ hosts }) =>
      hosts.every(({ sides }) => sides === 0),
    );
    t.like(machines[0]?.end, { reason: 'exited', status: 0 });
    void existsSync;
    void readFileSync;
  },
);
