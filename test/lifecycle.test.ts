import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import test from 'ava';
import { Image, LockstepError, Machine, record, replay } from '../lib/index.js';
import { command, drain, type Outcome, root, scratch } from './helpers/command.js';
import { tinyProgram } from './helpers/tiny-programs.js';

function scenario(name: string): Promise<Outcome> {
  const program = join(root, 'test/helpers/lifecycle-child.ts');
  return command([process.execPath, '--import=tsx', '--expose-gc', program, name], { cwd: root });
}

for (const [name, what] of [
  ['closed', 'machines closed in every state'],
  ['collected', 'machines left to the garbage collector'],
  ['terminated', 'workers terminated with machines running'],
] as const) {
  test.serial(`${what} leave no thread, descriptor or child`, async (t) => {
    const { status, stdout, stderr } = await scenario(name);
    t.is(status, 0, stderr);
    t.is(stderr, '');
    const { before, after } = JSON.parse(stdout.toString());
    t.is(after.threads, before.threads);
    t.deepEqual(after.descriptors, before.descriptors);
    t.is(after.children, before.children);
  });
}

test.serial('process.exit() with machines running', async (t) => {
  const { status, signal, stdout } = await scenario('exit');
  t.is(stdout.toString(), 'running\n');
  t.is(signal, null);
  t.is(status, 3);
});

test.serial('an uncaught exception with machines running', async (t) => {
  const { status, signal, stdout, stderr } = await scenario('uncaught');
  t.is(stdout.toString(), 'running\n');
  t.is(signal, null);
  t.is(status, 1);
  t.regex(stderr, /nobody catches this/);
});

test.serial('a machine without a reference lets the process end', async (t) => {
  for (const name of ['unref', 'unref-waiting']) {
    const { status, signal, stdout } = await scenario(name);
    t.is(stdout.toString(), 'running\n', name);
    t.is(signal, null, name);
    t.is(status, 0, name);
  }
});

const PROGRAM = 'read -r name; echo "hello $name"; i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done; echo $i';

function shellImage(script: string): Promise<Image> {
  return Image.fromProgram({ argv: ['busybox', 'sh', '-c', script], memoryMiB: 32 });
}

async function startShell(script: string): Promise<Machine> {
  const machine = await Machine.create(await shellImage(script));
  await machine.start();
  return machine;
}

function data(machine: Machine): Promise<string> {
  return new Promise((resolve) => machine.stdout.once('data', (bytes) => resolve(String(bytes))));
}

test.serial('several machines at once, in this thread and in workers', async (t) => {
  const image = await shellImage(PROGRAM);
  const here = Array.from({ length: 5 }, async (_, index) => {
    await using machine = await Machine.create(image);
    await machine.start();
    machine.stdin.end(`here ${index}\n`);
    const output = (await drain(machine.stdout)).toString();
    t.is((await machine.ended).status, 0);
    return output;
  });
  const elsewhere = Array.from({ length: 3 }, (_, index) => {
    const inputs = [`a ${index}\n`, `b ${index}\n`];
    const workerData = { bytes: image.bytes, inputs };
    const worker = new Worker(new URL('./helpers/lifecycle-worker.mjs', import.meta.url), { workerData });
    return new Promise<string[]>((resolve, reject) => worker.once('message', resolve).once('error', reject));
  });
  const outputs = [...(await Promise.all(here)), ...(await Promise.all(elsewhere)).flat()];
  const names = [0, 1, 2, 3, 4].map((index) => `here ${index}`);
  names.push(...[0, 1, 2].flatMap((index) => [`a ${index}`, `b ${index}`]));
  t.deepEqual(
    outputs,
    names.map((name) => `hello ${name}\n2000\n`),
  );
});

test.serial('pause, registers, memory, digest, resume', async (t) => {
  await using machine = await startShell('echo ready; while read -r line; do echo "$line"; done');
  t.is(await data(machine), 'ready\n');
  t.throws(() => machine.registers(), { code: 'ERR_LOCKSTEP_RUNNING' });
  t.throws(() => machine.readMemory(0n, 8), { code: 'ERR_LOCKSTEP_RUNNING' });
  await machine.pause();
  t.is(machine.state, 'paused');
  const registers = machine.registers();
  for (const name of ['rip', 'rsp', 'rax', 'rflags', 'cr3']) t.is(typeof registers[name], 'bigint', name);
  t.true((registers.rip as bigint) > 0n);
  t.is(machine.readMemory(0x1000n, 4096).length, 4096);
  t.throws(() => machine.readMemory(32n << 20n, 1), { code: 'ERR_LOCKSTEP_ADDRESS' });
  t.throws(() => machine.readMemory(-1n, 1), { code: 'ERR_LOCKSTEP_ADDRESS' });
  t.throws(() => machine.readMemory(1n << 80n, 1), { code: 'ERR_LOCKSTEP_ADDRESS' });
  const digest = await machine.digest();
  t.deepEqual(await machine.digest(), digest);
  t.deepEqual(machine.registers(), registers);
  machine.resume();
  machine.stdin.write('again\n');
  t.is(await data(machine), 'again\n');
  t.notDeepEqual(await machine.digest(), digest);
  machine.stdin.end();
  t.is((await machine.ended).reason, 'exited');
});

test.serial('a guest that makes no access is never paused, but closed', async (t) => {
  await using machine = await startShell('echo ready; while :; do :; done');
  await data(machine);
  // The pause is over as well: nobody waits for ever.
  await Promise.allSettled([machine.pause(), machine.close()]);
  t.is((await machine.ended).reason, 'closed');
});

test.serial('a recording stopped at an event, inspected, and gone on with', async (t) => {
  const log = join(scratch(t), 'x.log');
  const image = await shellImage('while read -r line; do echo "$line" >> /tmp/lines; echo "got $line"; done');
  await using machine = await record(image, { log, digestEvery: 1 });
  for (const line of ['one', 'two', 'three']) {
    machine.stdin.write(`${line}\n`);
    t.is(await data(machine), `got ${line}\n`);
  }
  machine.stdin.end();
  await machine.ended;
  const { events } = machine.stats();
  t.throws(() => machine.writeMemory(0x1000n, Uint8Array.of(1)), { code: 'ERR_LOCKSTEP_RECORDED' });
  await machine.close();

  const seen: string[] = [];
  for (let event = 1; event < events; event++) {
    await using replaying = await replay(log, { stopAtEvent: event });
    await replaying.stopped;
    t.is(replaying.machine.state, 'paused');
    t.is(replaying.machine.stats().events, event);
    const { registers } = await replaying.machine.digest();
    seen.push(registers);
    t.true((replaying.machine.registers().rip as bigint) > 0n);
    replaying.machine.resume();
    const result = await replaying.result;
    t.is(result.divergence, null);
    t.is(result.events, events);
  }
  t.true(new Set(seen).size > 1);

  await using live = await replay(log, { stopAtEvent: events - 1, liveAfterStop: true });
  await live.stopped;
  const contents = live.machine.readFile('/tmp/lines');
  live.machine.resume();
  t.regex(Buffer.from(await contents).toString(), /^one\ntwo\n/);
});

test.serial('trace() yields accesses and dirtied pages in batches, and ends with the machine', async (t) => {
  await using machine = await Machine.create(await shellImage(`${PROGRAM}; read -r line`));
  await machine.start();
  const kinds = new Set<string>();
  let exits = 0;
  let pages = 0;
  const traced = (async () => {
    for await (const batch of machine.trace({ dirtyPages: true })) {
      for (const exit of batch.exits) {
        kinds.add(exit.kind);
        t.is(typeof exit.address, 'bigint');
        t.true(exit.position > 0 && exit.sizeBytes > 0);
      }
      exits += batch.exits.length;
      pages += batch.dirtyPages.length;
      t.is(batch.dropped, 0);
    }
  })();
  await t.throwsAsync(machine.trace().next(), { code: 'ERR_LOCKSTEP_STATE' });
  machine.stdin.write('you\n');
  await data(machine);
  machine.stdin.end('\n');
  await machine.ended;
  await traced;
  t.true(exits > 0);
  t.true(pages > 0);
  t.true(kinds.has('port'));
});

test.serial('trace() can be filtered, left, aborted and begun again', async (t) => {
  await using machine = await startShell('while read -r line; do echo "$line"; done');
  const talk = setInterval(() => machine.stdin.write('x\n'.repeat(50)), 5);
  machine.stdout.resume();
  try {
    for await (const batch of machine.trace({ filter: ({ write }) => write })) {
      t.true(batch.exits.every(({ write }) => write));
      if (batch.exits.length > 0) break;
    }
    // What the first had still on its way is not the second's: its batches are larger.
    for await (const batch of machine.trace({ entriesMax: 1 })) {
      t.true(batch.exits.length <= 1);
      if (batch.exits.length > 0) break;
    }
    const aborting = new AbortController();
    const trace = machine.trace({ signal: aborting.signal });
    await trace.next();
    aborting.abort();
    await t.throwsAsync(
      async () => {
        for await (const _ of trace);
      },
      { name: 'AbortError' },
    );
  } finally {
    clearInterval(talk);
  }
});

test.serial('files of a running guest', async (t) => {
  const host = scratch(t);
  mkdirSync(join(host, 'sub'));
  writeFileSync(join(host, 'packed'), 'from the host\n');
  symlinkSync('packed', join(host, 'link'));
  const argv = ['busybox', 'sh', '-c', 'cd /d; echo hello > file; : > empty; echo ready; read -r line'];
  const image = await Image.fromProgram({ argv, files: [{ host, guest: '/d' }], memoryMiB: 32 });
  await using machine = await Machine.create(image);
  await machine.start();
  t.is(await data(machine), 'ready\n');
  t.is(Buffer.from(await machine.readFile('/d/file')).toString(), 'hello\n');
  t.is(Buffer.from(await machine.readFile('/d/packed')).toString(), 'from the host\n');
  t.is((await machine.readFile('/d/empty')).length, 0);
  const files = await machine.listFiles('/d');
  t.deepEqual(files.map(({ name, type }) => `${type} ${name}`).sort(), [
    'directory sub',
    'file empty',
    'file file',
    'file packed',
    'link link',
  ]);
  t.deepEqual(
    files.find(({ name }) => name === 'file'),
    { name: 'file', type: 'file', sizeBytes: 6 },
  );
  t.like(await machine.statFile('/d'), { type: 'directory' });
  const missing = await t.throwsAsync(machine.readFile('/d/none'), { code: 'ERR_LOCKSTEP_GUEST_FILE' });
  t.is((missing as LockstepError).errno, 2);
  await t.throwsAsync(machine.readFile('relative'), { code: 'ERR_LOCKSTEP_INVALID_ARGUMENT' });
  machine.stdin.end();
  await machine.ended;
});

test.serial('system calls that the guest kernel lacks are counted by name', async (t) => {
  const directory = scratch(t);
  const image = await Image.fromProgram({ argv: [tinyProgram(directory, 'unknown')], memoryMiB: 16 });
  await using machine = await Machine.create(image);
  await machine.start();
  t.is((await machine.ended).status, 0);
  t.deepEqual(Object.values(machine.stats().unknownSyscalls), [1]);
  await using shell = await startShell('read -r x < /none; x=$(true)');
  await shell.ended;
  t.deepEqual(shell.stats().unknownSyscalls, { fork: 1 });
});

test.serial('an AbortSignal closes a machine that starts, and rejects with AbortError', async (t) => {
  const image = await shellImage('while :; do :; done');
  const early = await Machine.create(image);
  await t.throwsAsync(early.start({ signal: AbortSignal.abort() }), { name: 'AbortError' });
  t.is(early.state, 'closed');
  t.is((await early.ended).reason, 'closed');
  const log = join(scratch(t), 'x.log');
  await t.throwsAsync(record(image, { log, signal: AbortSignal.abort() }), { name: 'AbortError' });
});

test.serial('close() is idempotent, and what comes after it is told so', async (t) => {
  const machine = await startShell('while :; do :; done');
  await Promise.all([machine.close(), machine.close()]);
  await machine.close();
  t.is(machine.state, 'closed');
  t.is((await machine.ended).reason, 'closed');
  t.throws(() => machine.registers(), { instanceOf: LockstepError });
  t.throws(() => machine.stats(), { instanceOf: LockstepError });
  t.throws(() => machine.resume(), { instanceOf: LockstepError });
  await t.throwsAsync(machine.pause(), { instanceOf: LockstepError });
  await t.throwsAsync(machine.readFile('/x'), { instanceOf: LockstepError });
  await t.throwsAsync(machine.start(), { code: 'ERR_LOCKSTEP_STATE' });
});

test.serial('await using closes', async (t) => {
  let outer: Machine | undefined;
  {
    await using machine = await startShell('while :; do :; done');
    outer = machine;
    t.is(machine.state, 'running');
  }
  t.is(outer.state, 'closed');
});

test.serial('10 MB through cat, to a reader that takes its time', async (t) => {
  const image = await Image.fromProgram({ argv: ['busybox', 'cat'], memoryMiB: 32 });
  await using machine = await Machine.create(image);
  await machine.start();
  const sent = Buffer.alloc(10_000_000, 'All work and no play makes Jack a dull boy. ');
  machine.stdin.end(sent);
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of machine.stdout) {
    chunks.push(chunk);
    // Now and then nobody reads for a moment: the guest waits.
    length += chunk.length;
    if (length % 7 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  }
  t.true(Buffer.concat(chunks).equals(sent));
  t.is((await machine.ended).status, 0);
});

test.serial('output that nobody reads stops the guest, and loses nothing', async (t) => {
  await using machine = await startShell('i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo $i; done');
  machine.stdout.pause();
  await new Promise((resolve) => setTimeout(resolve, 200));
  t.is(machine.state, 'running');
  const lines = (await drain(machine.stdout)).toString().trimEnd().split('\n');
  t.is(lines.length, 20_000);
  t.is(lines.at(-1), '20000');
});
