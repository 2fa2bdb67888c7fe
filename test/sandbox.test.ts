/** Native threads keep the system calls that they need, and no others. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import test from 'ava';
import { makeKeys } from '../lib/index.js';
import { lockstep, run, scratch } from './helpers/command.js';
import { SideChild } from './helpers/pair-child.js';
import { type ThreadOf, threadsCalled, threadsOf } from './helpers/threads-of.js';

test.serial('a forbidden call of the vCPU thread is refused, and said', async (t) => {
  const program = ['--', 'busybox', 'echo', 'never printed'];
  const refused = await run(['run', ...program], { env: { LOCKSTEP_FAULT: 'forbidden-call' } });
  t.is(refused.status, 125);
  t.is(refused.stdout.toString(), '');
  t.regex(refused.stderr, /opening a socket: Lockstep's own sandbox refuses system call 41 \(socket\)/);
});

const isConfined = (thread: ThreadOf) =>
  thread.field('Seccomp') === '2' && thread.field('NoNewPrivs') === '1';

for (const [name, flags, confined] of [
  ['the vCPU thread of a running machine is confined, JavaScript is not', [], true],
  ['--no-sandbox leaves it as it is', ['--no-sandbox'], false],
] as const) {
  test.serial(name, async (t) => {
    const argv = [lockstep, 'run', ...flags, '--', 'busybox', 'cat'];
    const child = spawn(process.execPath, argv, { stdio: ['pipe', 'pipe', 'inherit'] });
    try {
      const answered = new Promise((resolve) => child.stdout.once('data', resolve));
      child.stdin.write('it runs\n');
      t.is(String(await answered), 'it runs\n');
      const threads = threadsOf(child.pid as number);
      const [vcpu, ...more] = threads.filter((thread) => thread.name === 'lockstep-vcpu') as [
        ThreadOf,
        ...ThreadOf[],
      ];
      t.is(more.length, 1); // its watchdog has its name, and its filter
      for (const thread of [vcpu, ...more]) t.is(isConfined(thread), confined);
      t.is(threads[0]?.field('Seccomp'), '0');
      t.is(threads[0]?.field('NoNewPrivs'), '0');
    } finally {
      child.kill('SIGKILL');
    }
  });
}

test.serial("the threads of a pair's sides are confined, those of TLS and of a takeover too", async (t) => {
  const directory = scratch(t);
  const keys = join(directory, 'keys');
  makeKeys(keys);
  const common = ['--json', '--tls', keys, '--arbiter', `file:${join(directory, 'arbiter')}`];
  const place = ['--link', 'tcp:127.0.0.1:0', '--console', 'tcp:127.0.0.1:0'];
  const primary = new SideChild(
    'primary',
    [lockstep, 'primary', ...common, ...place, '--', 'busybox', 'cat'],
    {},
  );
  const said = await primary.until('listening');
  const link = /(tcp:\S+)\.$/.exec(said.detail ?? '')?.[1] as string;
  const own = ['--link', link, '--console', 'tcp:127.0.0.1:0', '--relink', 'tcp:localhost:0'];
  const shadow = new SideChild('shadow', [lockstep, 'shadow', ...common, ...own], {});
  try {
    await primary.until('armed');
    for (const { pid } of [primary, shadow]) {
      for (const name of ['lockstep-vcpu', 'lockstep-pair', 'lockstep-tls']) {
        const threads = await threadsCalled(pid, name, isConfined);
        t.true(threads.every(isConfined), name);
      }
      t.is(threadsOf(pid)[0]?.field('Seccomp'), '0');
    }
    primary.signal('SIGKILL');
    await shadow.until('live');
    // Where it waits for its next shadow is looked up, and listened at, by a confined thread.
    while (shadow.notices.filter(({ event }) => event === 'listening').length < 2) {
      t.is(shadow.exited, undefined, shadow.story());
      await new Promise((resolve) => shadow.once('notice', resolve));
    }
    t.true(
      threadsOf(shadow.pid)
        .filter(({ name }) => name.startsWith('lockstep-'))
        .every(isConfined),
    );
  } finally {
    for (const child of [primary, shadow]) child.signal('SIGKILL');
    await Promise.all([primary.end(), shadow.end()]);
  }
});
