import { readdirSync, readFileSync, statSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { ConsoleClient, makeKeys, readKeys } from '../lib/index.js';
import { lockstep, printedRandom, run, scratch } from './helpers/command.js';
import { EtcdHosts } from './helpers/etcd-hosts.js';
import { SideChild } from './helpers/pair-child.js';
import { closeAll, mustBeOne, open } from './helpers/pair-faults.js';
import { LEDGER_LOAD } from './helpers/pair-loads.js';

test.afterEach.always(closeAll);

const SECRET = 'xyzzyPlughSesame';

function keysIn(t: ExecutionContext, days?: number): string {
  const directory = join(scratch(t), 'keys');
  makeKeys(directory, { days });
  return directory;
}

test.serial(
  'a pair on two hosts, with TLS between them and etcd on a third: the network is cut',
  async (t) => {
    const keys = keysIn(t);
    const hosts = await EtcdHosts.make();
    try {
      const { arbiter, inside } = hosts;
      const places = { arbiter, inside, link: 'tcp:10.9.0.1:7000', options: ['--tls', keys] };
      const load = { ...LEDGER_LOAD, lines: 80 };
      const pair = await open({ load, random: printedRandom(t), ...places });
      for (const tap of [pair.taps.primary, pair.taps.shadow]) tap.outlives = true;
      const fed = pair.feed();
      await pair.untilLines(20);
      await hosts.unplug('primary');
      await pair.shadow.until('claim-won');
      await sleep(200);
      await hosts.plugIn('primary');
      await fed;
      await pair.judge();
      t.is(mustBeOne(pair), 'shadow');
    } finally {
      await hosts.remove();
    }
  },
);

interface Started {
  primary: SideChild;
  shadow: SideChild;
  /** Both sides' console addresses. */
  consoles: string[];
  wire: () => Buffer;
  close(): Promise<void>;
}

const ECHO = ['busybox', 'awk', '{ print "heard", $0; fflush() }'];

function side(
  t: ExecutionContext,
  name: 'primary' | 'shadow',
  options: string[],
  rest: string[] = [],
): SideChild {
  const common = ['--json', '--arbiter', `file:${join(scratch(t), 'arbiter')}`, ...options, ...rest];
  return new SideChild(name, [lockstep, name, ...common], {});
}

/** Where a side says that it listens. */
async function listening(child: SideChild, what: 'link' | 'console'): Promise<string> {
  for (;;) {
    const said = child.notices.find(({ detail }) => detail?.startsWith(`The ${what} listens on `));
    if (said) return /(tcp:\S+)\.$/.exec(said.detail as string)?.[1] as string;
    if (child.exited !== undefined) throw new Error(child.story());
    await sleep(10);
  }
}

/** A pair over TCP with all bytes of its link written down. */
async function start(t: ExecutionContext, security: string[]): Promise<Started> {
  const arbiter = ['--arbiter', `file:${join(scratch(t), 'shared')}`];
  const tcp = 'tcp:127.0.0.1:0';
  const of = (name: 'primary' | 'shadow', link: string, rest: string[] = []) =>
    side(t, name, [...arbiter, '--link', link, '--console', tcp, ...security], rest);
  const primary = of('primary', tcp, ['--', ...ECHO]);
  const chunks: Buffer[] = [];
  const port = Number((await listening(primary, 'link')).split(':').at(-1));
  const relay = createServer((near) => {
    const far = connect(port, '127.0.0.1');
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      from.on('data', (bytes) => chunks.push(bytes));
      from.on('error', () => {});
      from.pipe(to);
    }
  });
  await new Promise<void>((resolve) => relay.listen(0, '127.0.0.1', resolve));
  const shadow = of('shadow', `tcp:127.0.0.1:${(relay.address() as AddressInfo).port}`);
  await primary.until('armed');
  const consoles = [await listening(primary, 'console'), await listening(shadow, 'console')];
  const close = async () => {
    for (const child of [primary, shadow]) child.signal('SIGKILL');
    await Promise.all([primary.end(), shadow.end()]);
    relay.close();
  };
  return { primary, shadow, consoles, wire: () => Buffer.concat(chunks), close };
}

async function answer(client: ConsoleClient, line: string): Promise<string> {
  const heard = new Promise<string>((resolve) =>
    client.stdout.once('data', (bytes) => resolve(String(bytes))),
  );
  client.stdin.write(`${line}\n`);
  return await heard;
}

for (const [name, secure] of [
  ['what crosses a link and a console with TLS cannot be read, and goes on after a kill', true],
  ['without TLS it can', false],
] as const) {
  test.serial(name, async (t) => {
    const keys = keysIn(t);
    const pair = await start(t, secure ? ['--tls', keys] : []);
    try {
      const tls = secure ? readKeys(keys, 'console') : undefined;
      const client = await ConsoleClient.connect({ addresses: pair.consoles, tls });
      t.is(await answer(client, SECRET), `heard ${SECRET}\n`);
      t.is(pair.wire().includes(SECRET), !secure);
      pair.primary.signal('SIGKILL');
      t.is(await answer(client, 'again'), 'heard again\n');
      await client.close();
    } finally {
      await pair.close();
    }
  });
}

test.serial('who has other keys, none, or the wrong ones is refused with a sentence', async (t) => {
  const [keys, others, expired] = [keysIn(t), keysIn(t), keysIn(t, 0)];
  const tcp = 'tcp:127.0.0.1:0';
  const primary = side(t, 'primary', ['--link', tcp, '--console', tcp, '--tls', keys], ['--', ...ECHO]);
  const plain = side(t, 'primary', ['--link', tcp, '--console', tcp], ['--', ...ECHO]);
  try {
    const shadow = async (link: string, ...security: string[]) => {
      const place = ['--link', link, '--console', `unix:${join(scratch(t), 's')}`];
      const arbiter = ['--arbiter', `file:${join(scratch(t), 'arbiter')}`];
      const { status, stderr } = await run(['shadow', ...place, ...arbiter, ...security]);
      t.is(status, 125);
      return stderr;
    };
    const link = await listening(primary, 'link');
    t.regex(await shadow(link, '--tls', others), /other side's certificate is refused\. .*issuer is unknown/);
    t.regex(await shadow(link, '--tls', expired), /certificate is refused|refused this one's certificate/);
    const console = ['--tls-cert', join(keys, 'console.pem'), '--tls-key', join(keys, 'console.key')];
    t.regex(await shadow(link, '--tls', keys, ...console), /refused this one's certificate/);
    t.regex(await shadow(link), /The primary wants TLS/);
    t.regex(await shadow(await listening(plain, 'link'), '--tls', keys), /does not speak TLS/);
    const consoles = [await listening(primary, 'console')];
    const tls = readKeys(others, 'console');
    await t.throwsAsync(ConsoleClient.connect({ addresses: consoles, tls }), { code: 'ERR_LOCKSTEP_TLS' });
    t.is(primary.exited, undefined);
  } finally {
    for (const child of [primary, plain]) child.signal('SIGKILL');
    await Promise.all([primary.end(), plain.end()]);
  }
});

test.serial('plain TCP to other hosts wants to be asked for', async (t) => {
  const arbiter = ['--arbiter', `file:${join(scratch(t), 'arbiter')}`];
  const places = ['--link', 'tcp:192.0.2.1:7000', '--console', `unix:${join(scratch(t), 'c')}`];
  const { status, stderr } = await run(['shadow', ...places, ...arbiter]);
  t.is(status, 125);
  t.regex(stderr, /not on the loopback/);
  t.regex(stderr, /--tls DIR.*--insecure/);
  const addresses = ['tcp:192.0.2.1:7000'];
  await t.throwsAsync(ConsoleClient.connect({ addresses }), { code: 'ERR_LOCKSTEP_INSECURE_LINK' });
});

test.serial('lockstep keys: files of mode 0600, never overwritten by chance', async (t) => {
  const directory = join(scratch(t), 'new');
  const { status, stdout } = await run(['keys', directory]);
  t.is(status, 0);
  t.is(stdout.length, 0);
  const names = ['ca.key', 'ca.pem', 'console.key', 'console.pem', 'side.key', 'side.pem'];
  t.deepEqual(readdirSync(directory).sort(), names);
  for (const name of names) t.is(statSync(join(directory, name)).mode & 0o777, 0o600, name);
  const before = readFileSync(join(directory, 'ca.pem'), 'utf8');
  const again = await run(['keys', directory]);
  t.is(again.status, 125);
  t.regex(again.stderr, /exists/);
  t.is(readFileSync(join(directory, 'ca.pem'), 'utf8'), before);
  t.is((await run(['keys', '--force', '--days', '5', directory])).status, 0);
  t.not(readFileSync(join(directory, 'ca.pem'), 'utf8'), before);
});
