import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { Etcd3 } from 'etcd3';
import { Arbiter, type EtcdOptions, Image, Primary } from '../lib/index.js';
import { command, root, scratch } from './helpers/command.js';
import { certificates, freePort, withEtcd } from './helpers/etcd-server.js';
import { patience } from './helpers/pace.js';
import { tinyProgram } from './helpers/tiny-programs.js';

const CONNECT_MS = 30_000;

/** Another process's view: a client of its own. */
async function using(options: EtcdOptions, body: (arbiter: Arbiter) => void | Promise<void>): Promise<void> {
  const arbiter = Arbiter.etcd(options);
  await arbiter.acquire(CONNECT_MS);
  try {
    await body(arbiter);
  } finally {
    arbiter.release();
  }
}

/** A single try may time out on a busy machine; asking again is what a pair does, too. */
function claim(arbiter: Arbiter, generation: number, id: string): 'won' | 'lost' {
  for (let tries = 0; tries < 100; tries++) {
    const answer = arbiter.claim('pair', generation, id);
    if (answer !== 'unreachable') return answer;
  }
  throw new Error('etcd never answered');
}

test.serial('one claim wins a generation for good, also for those who come later', async (t) => {
  await withEtcd([], async ({ etcd, endpoint, restart }) => {
    await using({ endpoints: [endpoint] }, async (one) => {
      t.is(claim(one, 1, 'a'), 'won');
      t.is(claim(one, 2, 'a'), 'won');
      await using({ endpoints: [endpoint] }, (other) => {
        t.is(claim(other, 2, 'b'), 'lost');
        t.is(claim(other, 3, 'b'), 'won');
      });
      t.is(claim(one, 2, 'a'), 'won');
      t.true(one.arm('pair', 4, 'shadow') || one.arm('pair', 4, 'shadow'));
      await etcd.kill();
      t.is(one.claim('pair', 4, 'a'), 'unreachable');
      t.false(one.arm('pair', 4, 'shadow'));
      await restart();
      t.is(claim(one, 2, 'b'), 'lost');
      t.is(claim(one, 3, 'b'), 'won');
    });
    await using({ endpoints: [endpoint], prefix: 'elsewhere/' }, (apart) => {
      t.is(claim(apart, 1, 'b'), 'won');
    });
  });
});

test.serial(
  'of a machine that is over only that stays, for a while, and nobody wins it any more',
  async (t) => {
    await withEtcd([], async ({ endpoint }) => {
      const client = new Etcd3({ hosts: [endpoint] });
      try {
        await using({ endpoints: [endpoint] }, async (arbiter) => {
          t.is(claim(arbiter, 1, 'a'), 'won');
          t.true(arbiter.arm('pair', 2, 'shadow') || arbiter.arm('pair', 2, 'shadow'));
          t.is(await arbiter.endOf('pair'), undefined);
          for (const status of [3, 4]) await arbiter.recordEnd('pair', { reason: 'exited', status });
          t.deepEqual(await arbiter.endOf('pair'), { reason: 'exited', status: 3 });
          t.deepEqual(await client.getAll().keys(), ['lockstep/pairs/pair/end']);
          const [mark] = (await client.get('lockstep/pairs/pair/end').exec()).kvs;
          t.true(Number(mark?.lease) > 0);
          // A side of it that wakes only now.
          for (const generation of [1, 2, 3]) t.is(claim(arbiter, generation, 'a'), 'lost');
          t.false(arbiter.arm('pair', 2, 'shadow'));
          // When the mark is gone as well, all but a first claim, which nobody makes twice, still needs the one before it.
          await client.delete().all();
          t.is(claim(arbiter, 2, 'shadow'), 'lost');
          t.false(arbiter.arm('pair', 2, 'shadow'));
          t.deepEqual(await client.getAll().keys(), []);
          t.is(await arbiter.endOf('pair'), undefined);
          t.is(await arbiter.endOf('../pair'), undefined);
        });
      } finally {
        client.close();
      }
    });
  },
);

test.serial('of several servers one that answers is enough', async (t) => {
  await withEtcd([], async ({ endpoint }) => {
    const dead = `127.0.0.1:${await freePort()}`;
    await using({ endpoints: [dead, endpoint, 'nowhere.invalid:2379'] }, (arbiter) => {
      t.is(claim(arbiter, 1, 'a'), 'won');
    });
  });
});

test.serial('a claim that took longer than it may is read back', async (t) => {
  await withEtcd([], async ({ etcd, endpoint }) => {
    await using({ endpoints: [endpoint] }, (arbiter) => {
      t.is(claim(arbiter, 1, 'a'), 'won');
      etcd.signal('SIGSTOP');
      t.is(arbiter.claim('pair', 2, 'a'), 'unreachable');
      etcd.signal('SIGCONT');
      // It may have been carried out by now or not; whoever is first stays first.
      const first = claim(arbiter, 2, 'b') === 'won' ? 'b' : 'a';
      for (const id of ['a', 'b']) t.is(claim(arbiter, 2, id), id === first ? 'won' : 'lost');
    });
  });
});

test.serial('TLS with certificates on both sides', async (t) => {
  const directory = scratch(t);
  await withEtcd(certificates(directory), async ({ endpoint }) => {
    const read = (name: string) => readFileSync(join(directory, name), 'utf8');
    const endpoints = [endpoint];
    const tls = { ca: read('ca.pem'), cert: read('host.pem'), key: read('host.key') };
    await using({ endpoints, tls }, (arbiter) => {
      t.is(claim(arbiter, 1, 'a'), 'won');
    });
    for (const wrong of [{ ca: tls.ca }, { ...tls, ca: read('other.pem') }, undefined]) {
      const arbiter = Arbiter.etcd({ endpoints, tls: wrong });
      await t.throwsAsync(arbiter.acquire(1500), { code: 'ERR_LOCKSTEP_ARBITER_UNREACHABLE' });
    }
  });
});

test.serial('no etcd: a primary says so, and where', async (t) => {
  const directory = scratch(t);
  const image = await Image.fromProgram({ argv: [tinyProgram(directory, 'cat')] });
  const arbiter = Arbiter.parse(`etcd:127.0.0.1:${await freePort()}`);
  const [link, console] = ['link', 'console'].map((name) => `unix:${join(directory, name)}`) as [
    string,
    string,
  ];
  const connectMs = patience(5000);
  const error = await t.throwsAsync(Primary.create(image, { link, console, arbiter, connectMs }), {
    code: 'ERR_LOCKSTEP_ARBITER_UNREACHABLE',
  });
  t.regex(error?.message ?? '', /^etcd at 127\.0\.0\.1:\d+ did not answer within \d+ ms: .*ECONNREFUSED/);
});

test.serial('the thread that asks keeps no process alive', async (t) => {
  await withEtcd([], async ({ endpoint }) => {
    const script = `
      import { Arbiter } from ${JSON.stringify(join(root, 'dist/index.js'))};
      const arbiter = Arbiter.parse('etcd:${endpoint}');
      await arbiter.acquire(${CONNECT_MS});
      console.log('acquired');`;
    const program = ['--input-type=module', '--eval', script];
    const { status, stdout, stderr } = await command([process.execPath, ...program], { cwd: root });
    t.is(stderr, '');
    t.is(stdout.toString(), 'acquired\n');
    t.is(status, 0);
  });
});

test.serial('who looked at a cluster is held by nothing, also when etcd is dead by then', async (t) => {
  await withEtcd([], async ({ etcd, endpoint }) => {
    const script = `
      import { cluster } from ${JSON.stringify(join(root, 'dist/index.js'))};
      const known = await cluster({ endpoints: ['${endpoint}'] });
      await known.view();
      console.log('looked');
      process.stdin.once('data', () => {
        known.close();
        process.stdin.destroy();
      });`;
    for (const dead of [false, true]) {
      const child = spawn(process.execPath, ['--input-type=module', '--eval', script], { cwd: root });
      try {
        await once(child.stdout, 'data');
        if (dead) await etcd.kill();
        child.stdin.write('\n');
        t.deepEqual(await once(child, 'close'), [0, null]);
      } finally {
        child.kill('SIGKILL');
      }
    }
  });
});

test('addresses that are none', (t) => {
  for (const address of [
    'etcd:',
    'etcd:host',
    'etcd:host:0',
    'etcd:host:65536',
    'etcd:a:1,',
    'etcd:http://a:1',
  ]) {
    t.throws(() => Arbiter.parse(address), { code: 'ERR_LOCKSTEP_INVALID_ARGUMENT' }, address);
  }
  t.is(Arbiter.parse('etcd:a:1,[::1]:2').address, 'etcd:a:1,[::1]:2');
});
