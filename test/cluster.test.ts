/** Hosts that are announced in etcd, a machine placed on them, and what becomes of it when they fail. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { Cluster, finish, served } from './helpers/cluster.js';
import { printedRandom, run, scratch } from './helpers/command.js';
import { patience } from './helpers/pace.js';
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

test.serial('redis goes on while hosts, sides, cables, keepers and etcd fail', async (t) => {
  const random = printedRandom(t);
  const { cluster, directory } = await make(t, ['A', 'B', 'C']);
  const program = ['--memory', '128', ...CARD, '--', ...redisServer(directory)];
  let keeper = cluster.protect(['--name', NAME, ...program]);
  let now = await cluster.untilProtected(NAME, 1);
  const clients = cluster.clients(8);
  const work = () => served(clients, random.between(50, 300));
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

  // etcd is away for longer than any lease: nobody does anything, and afterwards all is as it was.
  await cluster.etcd.kill();
  await work();
  await sleep(patience(3000));
  await work();
  await cluster.startEtcd();
  await cluster.until('all hosts are announced again', ({ hosts }) => hosts.length === 3);
  t.deepEqual(await cluster.untilProtected(NAME, 6), now);
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
  t.deepEqual(await cluster.claims(), []);
});

test.serial('a machine goes on from a snapshot, on hosts that it is placed on', async (t) => {
  const { cluster, directory } = await make(t, ['A', 'B']);
  const [control, saved] = [join(directory, 'ctl'), join(directory, 'redis.snapshot')];
  const redis = async (...words: string[]) => {
    const asked = cluster.run(['redis-cli', '-h', '10.0.2.15', ...words]);
    t.is(await asked.end(), 0, asked.text);
    return asked.lines.join(' ');
  };
  const answers = async () => {
    const words = ['redis-cli', '-h', '10.0.2.15', 'ping'];
    for (const begun = performance.now(); (await cluster.run(words).end()) !== 0; await sleep(50))
      if (performance.now() - begun > patience(30_000)) throw new Error(`no redis\n${cluster.said()}`);
  };
  const own = ['--control', control, '--net', 'bridge:br0', '--memory', '64', ...CARD];
  const alone = cluster.lockstep(['run', ...own, '--', ...redisServer(directory)], 'A');
  await answers();
  await redis('set', 'before', 'the snapshot');
  const taking = cluster.lockstep(['snapshot', '--control', control, saved], 'A');
  t.is(await taking.end(), 0, taking.text);
  await alone.kill();

  const stray = cluster.protect(['--name', NAME, '--image', saved, '--memory', '128']);
  t.is(await stray.end(), 125);
  t.regex(stray.text, /memoryMiB was given to a machine that goes on from a snapshot/);
  const keeper = cluster.protect(['--name', NAME, '--image', saved]);
  const { live, shadow } = await cluster.untilProtected(NAME, 1);
  t.is(await redis('get', 'before'), 'the snapshot');
  await redis('set', 'after', 'it');
  await cluster.killHost(live);
  await cluster.startHost(live);
  t.deepEqual({ ...(await cluster.untilProtected(NAME, 2)) }, { live: shadow, shadow: live });
  t.is(await redis('mget', 'before', 'after'), 'the snapshot it');
  cluster.run(['redis-cli', '-h', '10.0.2.15', 'shutdown', 'nosave']);
  t.is(await keeper.end(), 0, keeper.text);
});

test.serial('what a person does wrong, or asks for', async (t) => {
  const { cluster, directory } = await make(t, ['A', 'B']);
  const failing = async (args: string[], what: RegExp) => {
    const program = cluster.lockstep(args);
    t.is(await program.end(), 125);
    t.regex(program.text, what);
  };
  const etcd = ['--etcd', cluster.servers];
  const keys = ['--tls', join(directory, 'keys')];
  const echo = ['--', '/bin/busybox', 'awk', 'BEGIN { print "begun" } { print $0 }'];
  const host = ['host', ...etcd, ...keys, '--name'];
  const protect = ['protect', ...etcd, ...keys, '--name', 'm'];
  const other = ['--directory', join(directory, 'other'), '--lease', '2'];
  const theirs = ['--directory', join(directory, 'A')];
  await Promise.all([
    failing(['hosts', '--etcd', '127.0.0.1:1'], /etcd at 127.0.0.1:1 did not answer/),
    failing(['hosts', '--etcd', 'nowhere'], /nowhere is no etcd server: write HOST:PORT/),
    failing(['host', ...etcd, '--name', 'A'], /Give --tls DIR/),
    failing([...host, 'a/b'], /cannot be the name of a host/),
    failing([...host, 'A', ...other], /a host called A is there already, at 10.0.2.101/),
    failing([...host, 'A', ...theirs], /belongs to a host that runs/),
    failing(protect, /there is no machine called m/),
    failing([...protect, '--memory', '2000', ...echo], /A has 1000 MiB free of 2064/),
    failing(['unprotect', ...etcd, 'm'], /there is no machine called m/),
  ]);

  // A keeper that is stopped leaves the machine; another one must not have its name; and somebody ends it.
  const small = ['--memory', '32', '--name', 'm'];
  const keeper = cluster.protect([...small, ...echo]);
  const { live } = await cluster.untilProtected('m', 1);
  await failing(
    ['protect', ...etcd, ...keys, ...small, '--', '/bin/busybox', 'cat'],
    /there is another machine called m/,
  );
  keeper.child.kill('SIGINT');
  t.is(await keeper.end(), 130);
  t.regex(keeper.text, /m goes on, and nobody mends it/);
  await cluster.untilProtected('m', 1);
  const files = readdirSync(join(directory, live));
  const out = files.find((file) => file.endsWith('.out')) as string;
  t.is(readFileSync(join(directory, live, out), 'utf8'), 'begun\n');

  // A console's certificate opens nothing.
  const image = `https://${cluster.hosts.host(live).address}:7100/images/${'0'.repeat(64)}`;
  for (const [kind, status] of [
    ['console', '400'],
    ['side', '404'],
  ] as const) {
    const key = (file: string) => join(directory, 'keys', file);
    const own = ['--insecure', '--cert', key(`${kind}.pem`), '--key', key(`${kind}.key`)];
    const asked = cluster.run([
      'curl',
      '-sS',
      '-m',
      '5',
      ...own,
      '-o',
      '/dev/null',
      '-w',
      '%{http_code}',
      '-I',
      image,
    ]);
    await asked.end();
    t.is(asked.lines[0], status, `${kind}: ${asked.text}`);
  }

  // Its claims go with it: no side of it could go on, were one forgotten somewhere.
  t.deepEqual((await cluster.claims()).map((name) => name.split('/')[3]).sort(), ['armed2', 'g1']);
  const ending = cluster.lockstep(['unprotect', ...etcd, 'm']);
  t.is(await ending.end(), 0, ending.text);
  t.deepEqual(await cluster.claims(), []);
  await cluster.until('all is over', ({ hosts }) => hosts.every(({ sides }) => sides === 0));
  t.deepEqual(await cluster.claims(), []);

  // Both hosts die: the machine is lost, and its keeper says so when it knows.
  const last = cluster.protect([...small, ...echo]);
  await cluster.untilProtected('m', 1);
  await Promise.all([cluster.killHost('A'), cluster.killHost('B')]);
  await Promise.all([cluster.startHost('A'), cluster.startHost('B')]);
  t.is(await last.end(), 125);
  t.regex(last.text, /m is over: lost: both sides are gone/);
  t.deepEqual(await cluster.claims(), []);
});
