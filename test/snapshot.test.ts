/** Snapshots: machines that go on from a file, live, recorded and replayed, in this process and by the command line. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { Image, LockstepError, Machine, probe, record, replay } from '../lib/index.js';
import { AWK, awkImage, lines, talk } from './helpers/awk-machine.js';
import { command, drain, lockstep, printedRandom, root, run, scratch } from './helpers/command.js';

/** A machine that was told a and b, and its snapshot there. */
async function taken(t: ExecutionContext, directory: string, file = 'x.snapshot') {
  const machine = await Machine.create(await awkImage());
  t.teardown(() => machine.close());
  await machine.start();
  const say = talk(machine);
  t.is(await say('a'), '1  a');
  t.is(await say('b'), '2 a b');
  const path = join(directory, file);
  return { machine, say, path, snapshot: await machine.snapshot(path) };
}

test.serial('a machine goes on from its snapshot, and its first one too', async (t) => {
  const directory = scratch(t);
  const { say, path, snapshot } = await taken(t, directory);
  t.is(statSync(path).mode & 0o777, 0o600);
  t.deepEqual(readdirSync(directory), ['x.snapshot']);
  t.is(await say('c'), '3 b c', 'the first one noticed nothing');
  for (const name of ['d', 'e']) {
    await using second = await Machine.restore(path);
    t.deepEqual(await second.digest(), snapshot.digest);
    await second.start();
    const tell = talk(second);
    t.is(await tell(name), `3 b ${name}`);
    t.is(await tell('f'), `4 ${name} f`);
    second.stdin.end();
    t.like(await second.ended, { reason: 'exited', status: 0 });
  }
});

test.serial(
  'the digest of a paused machine is that of its snapshot, and of each that is restored',
  async (t) => {
    const directory = scratch(t);
    const { machine, say, path } = await taken(t, directory);
    await say('c');
    await machine.pause();
    const digest = await machine.digest();
    const snapshot = await machine.snapshot(path, { force: true });
    t.deepEqual(snapshot.digest, digest);
    t.deepEqual(await machine.digest(), digest);
    machine.resume();
    t.is(await say('d'), '4 c d');
    await using restored = await Machine.restore(path);
    t.deepEqual(await restored.digest(), digest);
    // A snapshot of what has not run since is the same again.
    const again = join(directory, 'again.snapshot');
    t.deepEqual(await restored.snapshot(again), snapshot);
    const [first, second] = await Promise.all([Image.open(path), Image.open(again)]);
    const [a, b] = await Promise.all([first.inspect(), second.inspect()]);
    t.deepEqual(
      b.segments.map(({ gpa, bytes }) => [gpa, bytes]),
      a.segments.map(({ gpa, bytes }) => [gpa, bytes]),
    );
    t.true(
      Buffer.from(first.bytes)
        .subarray(a.contentOffset)
        .equals(Buffer.from(second.bytes).subarray(b.contentOffset)),
    );
    if (b.manifest.kind !== 'snapshot' || a.manifest.kind !== 'snapshot') return t.fail();
    t.is(b.manifest.from, a.sha256);
    t.deepEqual(b.manifest.of, a.manifest.of);
    const { vendor, cpuModel, net } = b.manifest;
    const host = await probe();
    t.deepEqual({ vendor, cpuModel, net }, { vendor: host.vendor, cpuModel: host.cpuModel, net: false });
    t.like(a.manifest, { vendor, cpuModel, net });
    t.is(a.manifest.of.kind, 'program');
  },
);

test.serial('a recording that starts at a snapshot replays with it alone', async (t) => {
  const directory = scratch(t);
  const { path } = await taken(t, directory);
  const image = await Image.open(path);
  for (const imageByHash of [undefined, false]) {
    const log = join(directory, `${imageByHash}.log`);
    const machine = await record(image, { log, imageByHash, digestEvery: 1 });
    const say = talk(machine);
    t.is(await say('c'), '3 b c');
    t.is(await say('d'), '4 c d');
    machine.stdin.end();
    await machine.ended;
    await machine.close();
    t.is(
      statSync(log).size < 100_000,
      imageByHash === undefined,
      'a snapshot is left out unless it is asked for',
    );
    if (imageByHash === undefined) {
      await t.throwsAsync(replay(log), { code: 'ERR_LOCKSTEP_IMAGE_MISSING' });
      await t.throwsAsync(replay(log, { image: await awkImage() }), { code: 'ERR_LOCKSTEP_WRONG_IMAGE' });
    }
    await using replaying = await replay(log, {
      image,
      stdout: 'stream',
      kicks: { perSecond: 200, seed: 1 },
    });
    const read = lines(replaying.machine.stdout);
    const result = await replaying.result;
    t.is(result.divergence, null);
    t.true(result.digests.checked > 2);
    t.like(result.ended, { reason: 'exited', status: 0 });
    t.deepEqual(await read(2), ['3 b c', '4 c d']);
  }
});

test.serial('a snapshot of a recording, live and replayed, is the same', async (t) => {
  const directory = scratch(t);
  const log = join(directory, 'x.log');
  const machine = await record(await awkImage(), { log });
  const say = talk(machine);
  await say('a');
  const live = await machine.snapshot(join(directory, 'live'));
  t.is(await say('b'), '2 a b');
  machine.stdin.end();
  await machine.ended;
  await t.throwsAsync(machine.snapshot(join(directory, 'late')), { code: 'ERR_LOCKSTEP_STATE' });
  await machine.close();
  await using replaying = await replay(log, { stopAtEvent: live.event });
  await replaying.stopped;
  t.is((await replaying.machine.snapshot(join(directory, 'replayed'))).event, live.event);
  replaying.machine.resume();
  t.is((await replaying.result).divergence, null);
  await using restored = await Machine.restore(join(directory, 'replayed'));
  await restored.start();
  // It stands right behind that event, which brought the line a.
  const read = lines(restored.stdout);
  restored.stdin.write('z\n');
  t.deepEqual(await read(2), ['1  a', '2 a z']);
});

test.serial('a damaged snapshot is refused, or found by verifying', async (t) => {
  const directory = scratch(t);
  const random = printedRandom(t);
  const { path } = await taken(t, directory);
  const bytes = readFileSync(path);
  const { contentOffset } = await (await Image.open(path)).verify();
  const bad = join(directory, 'bad');
  const code = 'ERR_LOCKSTEP_NOT_AN_IMAGE';
  for (let i = 0; i < 40; i++) {
    const copy = Buffer.from(bytes);
    const inFront = i % 2 === 0;
    const at = inFront
      ? random.between(0, contentOffset - 1)
      : random.between(contentOffset, bytes.length - 1);
    copy[at] = (copy[at] as number) ^ (1 << random.between(0, 7));
    writeFileSync(bad, copy);
    if (inFront) await t.throwsAsync(Machine.restore(bad), { code }, `byte ${at}`);
    else
      await t.throwsAsync(
        Image.open(bad).then((image) => image.verify()),
        { code },
        `byte ${at}`,
      );
  }
  writeFileSync(bad, bytes.subarray(0, random.between(0, bytes.length - 1)));
  await t.throwsAsync(Machine.restore(bad), { code });
  writeFileSync(bad, Buffer.concat([bytes, bytes.subarray(0, 4096)]));
  await t.throwsAsync(Machine.restore(bad), { code });
  // Damage behind the front shows at the latest when a recording looks at all of memory.
  const copy = Buffer.from(bytes);
  copy[bytes.length - 1] = (copy[bytes.length - 1] as number) ^ 1;
  writeFileSync(bad, copy);
  t.is((await run(['image', 'inspect', bad])).status, 125);
  t.is((await run(['image', 'inspect', path])).status, 0);
});

test.serial('what cannot be taken or restored is said plainly', async (t) => {
  const directory = scratch(t);
  const unborn = await Machine.create(await awkImage());
  await t.throwsAsync(unborn.snapshot(join(directory, 'unborn')), { code: 'ERR_LOCKSTEP_STATE' });
  await unborn.close();
  const { machine, say, path } = await taken(t, directory);
  await t.throwsAsync(machine.snapshot(path), {
    code: 'ERR_LOCKSTEP_INVALID_ARGUMENT',
    message: /exists already/,
  });
  const missing = await t.throwsAsync(machine.snapshot(join(directory, 'none', 'x')), {
    instanceOf: LockstepError,
  });
  t.like(missing, { code: 'ERR_LOCKSTEP_SYSTEM', errno: 2 });
  for (const options of [
    { memoryMiB: 512 },
    { cpuModel: 'x86-64-v2' },
    { rows: 10 },
    { net: { ip: '10.0.0.1/24' } },
  ])
    await t.throwsAsync(Machine.restore(path, options as object), { code: 'ERR_LOCKSTEP_INVALID_ARGUMENT' });
  await t.throwsAsync(Machine.restore(path, { net: { unix: join(directory, 'net') } }), {
    code: 'ERR_LOCKSTEP_INVALID_ARGUMENT',
    message: /no network card/,
  });
  t.is(await say('c'), '3 b c');
  const image = join(directory, 'image');
  await (await awkImage()).write(image);
  await t.throwsAsync(Machine.restore(image), { code: 'ERR_LOCKSTEP_INVALID_ARGUMENT' });
  t.deepEqual(readdirSync(directory).sort(), ['image', 'x.snapshot'], 'and nothing is left');
});

test.serial('a full disk leaves nothing, and the guest goes on', async (t) => {
  const disk = scratch(t);
  const child = ['--import', 'tsx', 'test/helpers/snapshot-child.ts', disk];
  const own = process.getuid?.() === 0 ? ['-m'] : ['-r', '-m'];
  const full = 'mount -t tmpfs -o size=1m none "$0"; exec "$@"';
  const { status, stderr } = await command(
    ['unshare', ...own, 'sh', '-ec', full, disk, process.execPath, ...child],
    { cwd: root },
  );
  t.is(status, 0, stderr);
});

test.serial('in the midst of its output a machine cannot be taken, and is when that is read', async (t) => {
  const directory = scratch(t);
  const script = 'while (i < 100000) { print i++ }; getline x; print "heard", x';
  await using machine = await Machine.create(
    await Image.fromProgram({ argv: ['busybox', 'awk', `BEGIN { ${script} }`] }),
  );
  await machine.start();
  // Sooner or later nothing more fits into what nobody reads.
  let error: LockstepError | undefined;
  for (let tries = 0; !error && tries < 500; tries++) {
    await sleep(20);
    await machine.pause();
    error = await machine.snapshot(join(directory, 'early'), { force: true }).then(
      () => undefined,
      (thrown: LockstepError) => thrown,
    );
    machine.resume();
  }
  t.is(error?.code, 'ERR_LOCKSTEP_STATE');
  t.regex(error?.message ?? '', /in the midst of its output/);
  const taken = machine.snapshot(join(directory, 'x'));
  const read = lines(machine.stdout);
  await taken;
  await read(100_000);
  machine.stdin.write('this\n');
  t.is((await read(100_001))[100_000], 'heard this');
  await using restored = await Machine.restore(join(directory, 'x'));
  await restored.start();
  restored.stdin.end('that\n');
  const [rest] = await Promise.all([drain(restored.stdout), restored.ended]);
  t.true(rest.toString().endsWith('99999\nheard that\n'), rest.toString().slice(-100));
});

test.serial('other randomness, if it is asked for', async (t) => {
  const directory = scratch(t);
  const script = `local f = io.open("/dev/urandom", "rb") f:setvbuf("no")
    local function draw() print(f:read(8):byte(1, 8)) io.stdout:flush() end
    draw() io.read() draw()`;
  const machine = await Machine.create(await Image.fromProgram({ argv: ['lua5.4', '-e', script] }));
  await machine.start();
  await lines(machine.stdout)(1);
  const path = join(directory, 'x.snapshot');
  await machine.snapshot(path);
  await machine.close();
  const said = async (seed?: number) => {
    await using restored = await Machine.restore(path, { seed });
    await restored.start();
    const read = lines(restored.stdout);
    restored.stdin.write('\n');
    return (await read(1))[0];
  };
  t.is(await said(), await said());
  t.is(await said(5), await said(5));
  t.not(await said(), await said(5));
  const log = join(directory, 'x.log');
  const recorded = await record(await Image.open(path), { log, seed: 5, digestEvery: 1 });
  const read = lines(recorded.stdout);
  recorded.stdin.write('\n');
  t.is((await read(1))[0], await said(5));
  await recorded.close();
  await using replaying = await replay(log, { image: await Image.open(path) });
  t.is((await replaying.result).divergence, null);
});

test.serial('the command line takes and starts them', async (t) => {
  const directory = scratch(t);
  const at = (name: string) => join(directory, name);
  const child = spawn(process.execPath, [
    ...[lockstep, 'run', '--quiet', '--control', at('control')],
    ...['--', 'busybox', 'awk', AWK],
  ]);
  const read = lines(child.stdout);
  child.stdin.write('a\n');
  await read(1);
  const [taken, again] = [
    await run(['snapshot', '--json', '--control', at('control'), at('x.snapshot')]),
    await run(['snapshot', '--control', at('control'), at('x.snapshot')]),
  ];
  t.is(taken.status, 0, taken.stderr);
  t.like(JSON.parse(taken.stdout.toString()), { version: 1, file: at('x.snapshot') });
  t.regex(taken.stderr, /x\.snapshot: the machine after event \d+, .* of memory/);
  t.is(again.status, 125);
  t.regex(again.stderr, /exists already/);
  t.is((await run(['snapshot', '--force', '--control', at('control'), at('x.snapshot')])).status, 0);
  child.stdin.end('b\n');
  t.deepEqual(await read(2), ['1  a', '2 a b']);
  await once(child, 'close');

  const ran = await run(['run', '--image', at('x.snapshot')], { input: 'c\nd\n' });
  t.is(ran.stdout.toString(), '2 a c\n3 c d\n', ran.stderr);
  const recorded = await run(['record', '--log', at('x.log'), '--image', at('x.snapshot')], { input: 'e\n' });
  t.is(recorded.stdout.toString(), '2 a e\n', recorded.stderr);
  t.is((await run(['replay', at('x.log')])).status, 125);
  const replayed = await run(['replay', '--stdout', '--image', at('x.snapshot'), at('x.log')]);
  t.is(replayed.status, 0, replayed.stderr);
  t.is(replayed.stdout.toString(), '2 a e\n');
  t.regex(
    (await run(['image', 'inspect', at('x.snapshot')])).stdout.toString(),
    /snapshot of a Linux program/,
  );
  t.is((await run(['run', '--memory', '512', '--image', at('x.snapshot')])).status, 125);
  t.true(existsSync(at('x.snapshot')));
});
