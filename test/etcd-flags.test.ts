/** What the command line says of etcd: its users, and its certificates. A real server decides. */
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { ConsoleClient } from '../lib/index.js';
import { lockstep, run, scratch } from './helpers/command.js';
import { certificates, etcdctl, withEtcd } from './helpers/etcd-server.js';
import { SideChild } from './helpers/pair-child.js';

interface Shown {
  flags?: string[];
  env?: Record<string, string>;
}

/** A primary without a shadow, of a program that says nothing, and a client that hears of its end. */
async function alone(
  t: ExecutionContext,
  arbiter: string,
  { flags = [], env }: Shown,
): ReturnType<typeof run> {
  const directory = scratch(t);
  const [link, console] = ['link', 'console'].map((name) => `unix:${join(directory, name)}`) as [
    string,
    string,
  ];
  const argv = ['primary', '--alone', '--link', link, '--console', console, '--arbiter', arbiter, ...flags];
  const over = new AbortController();
  ConsoleClient.connect({ addresses: [console], signal: over.signal })
    .then(({ stdout }) => stdout.resume())
    .catch(() => {}); // of one that is refused there is no console
  const outcome = await run([...argv, '--', 'busybox', 'true'], { env });
  over.abort();
  return outcome;
}

/** All at once: whoever is refused is so only when it has tried for ten seconds. */
async function refused(t: ExecutionContext, arbiter: string, cases: [Shown, RegExp][]): Promise<void> {
  await Promise.all(
    cases.map(async ([shown, sentence]) => {
      const { status, stderr } = await alone(t, arbiter, shown);
      t.is(status, 125, stderr);
      t.regex(stderr, sentence);
      t.false(stderr.includes('secret'));
    }),
  );
}

/** A pair whose shadow is armed, and claims when its primary is killed. */
async function takesOver(t: ExecutionContext, arbiter: string, { flags = [], env = {} }: Shown) {
  const at = (name: string) => `unix:${join(directory, name)}`;
  const directory = scratch(t);
  const shared = ['--json', '--link', at('link'), '--arbiter', arbiter, ...flags];
  const own = (name: string) => ['--console', at(`${name}.console`)];
  const program = ['--', 'busybox', 'cat'];
  const primary = new SideChild('primary', [lockstep, 'primary', ...shared, ...own('p'), ...program], env);
  await primary.until('listening');
  const shadow = new SideChild('shadow', [lockstep, 'shadow', ...shared, ...own('s')], env);
  try {
    await primary.until('armed');
    await shadow.until('armed');
    primary.signal('SIGKILL');
    t.is((await shadow.until('live')).generation, 2);
  } finally {
    for (const side of [primary, shadow]) side.signal('SIGKILL');
    await Promise.all([primary.end(), shadow.end()]);
  }
}

test.serial('a user of etcd: name and password come from the environment', async (t) => {
  await withEtcd([], async ({ endpoint }) => {
    const control = (...argv: string[]) => etcdctl(endpoint, ...argv);
    control('user', 'add', 'root:rootsecret');
    control('user', 'grant-role', 'root', 'root');
    control('role', 'add', 'pairs');
    control('role', 'grant-permission', 'pairs', '--prefix=true', 'readwrite', 'lockstep/');
    for (const name of ['pair', 'stranger']) control('user', 'add', `${name}:secret:${name}`);
    control('user', 'grant-role', 'pair', 'pairs');
    control('auth', 'enable');
    const arbiter = `etcd:${endpoint}`;
    for (const env of [
      { ETCDCTL_USER: 'pair:secret:pair' },
      { ETCDCTL_USER: 'pair', ETCDCTL_PASSWORD: 'secret:pair' },
    ] as Record<string, string>[]) {
      const { status, stderr } = await alone(t, arbiter, { env });
      t.is(status, 0, stderr);
    }
    await takesOver(t, arbiter, { env: { ETCDCTL_USER: 'pair:secret:pair' } });
    await refused(t, arbiter, [
      [{}, /did not answer within .*: .*user name is empty/],
      [{ env: { ETCDCTL_USER: 'pair:wrongsecret' } }, /did not answer within .*: .*authentication failed/],
      [{ env: { ETCDCTL_USER: 'nobody:secret' } }, /did not answer within .*: .*authentication failed/],
      [
        { env: { ETCDCTL_USER: 'stranger:secret:stranger' } },
        /did not answer within .*: .*permission denied/,
      ],
    ]);
  });
});

test.serial('certificates of etcd: --etcd-ca, --etcd-cert, --etcd-key', async (t) => {
  const directory = scratch(t);
  await withEtcd(certificates(directory), async ({ endpoint }) => {
    const arbiter = `etcd:${endpoint}`;
    const show = (names: { ca?: string; cert?: string; key?: string }) => ({
      flags: Object.entries(names).flatMap(([what, name]) => [`--etcd-${what}`, join(directory, name)]),
    });
    const right = { ca: 'ca.pem', cert: 'host.pem', key: 'host.key' };
    t.is((await alone(t, arbiter, show(right))).status, 0);
    await takesOver(t, arbiter, show(right));
    await refused(t, arbiter, [
      [{}, /did not answer within /],
      [show({ ca: 'ca.pem' }), /did not answer within .*certificate/],
      [show({ ...right, ca: 'other.pem' }), /did not answer within .*certificate/],
      [show({ ca: 'ca.pem', cert: 'other.pem', key: 'other.key' }), /did not answer within .*certificate/],
      [show({ cert: 'host.pem', key: 'host.key' }), /want --etcd-ca too/],
      [show({ ...right, ca: 'nowhere.pem' }), /nowhere\.pem cannot be read/],
      [show({ ...right, key: 'other.key' }), /./],
    ]);
  });
});
