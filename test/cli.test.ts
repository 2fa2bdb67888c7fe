import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { lockstep, run, scratch, shell } from './helpers/command.js';

const sh = (script: string) => ['--', 'busybox', 'sh', '-c', script];
/** Of the closing line and its like. */
const QUIET = '';

test.serial("the exit status is the program's", async (t) => {
  for (const status of [0, 1, 3, 125, 255])
    t.is((await run(['run', ...sh(`exit ${status}`)])).status, status, String(status));
  const log = join(scratch(t), 'x.log');
  t.is((await run(['record', '--log', log, ...sh('exit 42')])).status, 42);
  // A replay's is its own: everything matched.
  t.is((await run(['replay', log])).status, 0);
});

test.serial('stdin, stdout and stderr pass through, byte for byte', async (t) => {
  const bytes = Buffer.from(
    Uint8Array.from({ length: 100_000 }, (_, index) => (index * 131 + (index >> 8)) & 0xff),
  );
  const cat = await run(['run', '--', 'busybox', 'cat'], { input: bytes });
  t.is(cat.status, 0);
  t.true(cat.stdout.equals(bytes));
  const both = await run(['run', '--quiet', ...sh('echo out; echo err >&2; read -r x; echo "$x"')], {
    input: 'in\n',
  });
  t.is(both.stdout.toString(), 'out\nin\n');
  t.is(both.stderr, 'err\n');
  const directory = scratch(t);
  writeFileSync(join(directory, 'in'), bytes);
  const files = `cd '${directory}'; "$0" "$1" run -- busybox cat < in > out 2> err`;
  t.is((await shell(files)).status, 0);
  t.true(readFileSync(join(directory, 'out')).equals(bytes));
  t.is(readFileSync(join(directory, 'err'), 'utf8'), '');
  // Closed from the start: an end of input, and nowhere to write to.
  t.is((await shell('"$0" "$1" run -- busybox cat < /dev/null')).status, 0);
});

test.serial("Lockstep's own words are on stderr, and --quiet drops them", async (t) => {
  const log = join(scratch(t), 'x.log');
  const loud = await run(['record', '--log', log, ...sh('echo out')]);
  t.is(loud.stdout.toString(), 'out\n');
  t.regex(loud.stderr, /^lockstep: 1 event, log [\d.]+ \w+, \d+ digests\n$/);
  const quiet = await run(['record', '--quiet', '--force', '--log', log, ...sh('echo out')]);
  t.is(quiet.stdout.toString(), 'out\n');
  t.is(quiet.stderr, QUIET);
  for (const args of [
    ['replay', '--quiet', log],
    ['log', 'verify', '--quiet', log],
    ['log', 'repair', '--quiet', log],
  ]) {
    const { status, stdout, stderr } = await run(args);
    t.is(status, 0);
    t.is(stdout.length, 0, args.join(' '));
    t.is(stderr, QUIET, args.join(' '));
  }
});

test.serial(
  'replay --json has exactly the shape that scripts rely on; --stdout is what was put out',
  async (t) => {
    const log = join(scratch(t), 'x.log');
    const script = 'while read -r line; do echo "[$line]"; done; echo no >&2';
    const recorded = await run(['record', '--log', log, '--digest-every', '1', ...sh(script)], {
      input: 'a\nb\n',
    });
    t.is(recorded.stdout.toString(), '[a]\n[b]\n');
    t.is(statSync(log).mode & 0o777, 0o600);

    const json = await run(['replay', '--json', log]);
    t.is(json.status, 0);
    t.is(json.stdout.toString().split('\n').length, 2);
    const result = JSON.parse(json.stdout.toString());
    t.deepEqual(Object.keys(result), ['version', 'events', 'digests', 'bytes', 'wallMs', 'divergence']);
    t.deepEqual(Object.keys(result.digests), ['checked', 'final']);
    t.is(result.version, 1);
    t.true(result.events > 0 && result.digests.checked > 1 && result.wallMs > 0);
    t.is(result.bytes, statSync(log).size);
    t.regex(result.digests.final, /^[0-9a-f]{16}-[0-9a-f]{16}-[0-9a-f]{16}$/);
    t.is(result.divergence, null);

    const output = await run(['replay', '--stdout', '--quiet', log]);
    t.is(output.stdout.toString(), '[a]\n[b]\n');
    t.is(output.stderr, QUIET);

    const stopped = await run(['replay', '--event', '1', log]);
    t.is(stopped.status, 0);
    t.regex(stopped.stdout.toString(), /^event {3}1\n(\w+ +0x[0-9a-f]+\n)+digest {2}[0-9a-f-]+\n$/);
  },
);

test.serial('--env, --cwd, --file, --memory, --seed, --time', async (t) => {
  const directory = scratch(t);
  mkdirSync(join(directory, 'tree'));
  writeFileSync(join(directory, 'tree/leaf'), 'green\n');
  const environment = await run(
    ['run', '--env', 'A=1 2', '--env', 'INHERITED', '--env', 'ABSENT', '--', 'busybox', 'env'],
    { env: { INHERITED: 'yes', SECRET: 'no' } },
  );
  const lines = environment.stdout.toString().trim().split('\n').sort();
  t.deepEqual(lines, [
    'A=1 2',
    'HOME=/root',
    'INHERITED=yes',
    'LANG=C.UTF-8',
    'LD_BIND_NOW=1',
    'PATH=/usr/local/bin:/usr/bin:/bin',
  ]);
  const cwd = await run(['run', '--cwd', '/some/where', '--', 'busybox', 'pwd']);
  t.is(cwd.stdout.toString(), '/some/where\n');

  const leaf = join(directory, 'tree/leaf');
  const same = await run(['run', '--file', leaf, '--', 'busybox', 'cat', leaf]);
  t.is(same.stdout.toString(), 'green\n');
  const elsewhere = await run([
    'run',
    '--file',
    `${join(directory, 'tree')}:/a`,
    '--file',
    `${leaf}:/b/c`,
    '--',
    'busybox',
    'cat',
    '/a/leaf',
    '/b/c',
  ]);
  t.is(elsewhere.stdout.toString(), 'green\ngreen\n', elsewhere.stderr);
  // Nothing else of the host is there, and nothing that the guest writes reaches it.
  t.is((await run(['run', '--', 'busybox', 'cat', '/etc/shadow'])).status, 1);
  t.is(
    (
      await run(['run', '--file', leaf, ...sh(`echo brown > '${leaf}'; read -r x < '${leaf}'; echo "$x"`)])
    ).stdout.toString(),
    'brown\n',
  );
  t.is(readFileSync(leaf, 'utf8'), 'green\n');

  const fixed = ['run', '--seed', '5', '--time', '2026-01-31T12:00:00Z', '--memory', '64'];
  const date = await run([...fixed, '--', 'busybox', 'date', '-u', '+%F %T']);
  t.is(date.stdout.toString(), '2026-01-31 12:00:00\n');
  const random = () => run([...fixed, '--', 'busybox', 'head', '-c', '32', '/dev/urandom']);
  const [first, second] = [await random(), await random()];
  t.is(first.stdout.length, 32);
  t.true(first.stdout.equals(second.stdout));
  const other = await run(['run', '--', 'busybox', 'head', '-c', '32', '/dev/urandom']);
  t.false(other.stdout.equals(first.stdout));
});

test.serial('image pack, inspect and run', async (t) => {
  const directory = scratch(t);
  const image = join(directory, 'x.image');
  const pack = [
    'image',
    'pack',
    '-o',
    image,
    '--env',
    'WHO=image',
    ...sh('read -r x; echo "$x from the $WHO"; exit 4'),
  ];
  const packed = await run(pack);
  t.is(packed.status, 0, packed.stderr);
  t.regex(packed.stderr, /\d+ instructions replaced, sha256 [0-9a-f]{64}/);
  const again = await run(pack);
  t.is(again.status, 125);
  t.regex(again.stderr, /exists already/);
  const bytes = readFileSync(image);
  t.is((await run([...pack.slice(0, 2), '--force', ...pack.slice(2)])).status, 0);
  t.true(readFileSync(image).equals(bytes));

  const shown = await run(['image', 'inspect', '--tree', image]);
  t.is(shown.status, 0);
  t.regex(shown.stdout.toString(), /^kind +Linux program$/m);
  t.regex(shown.stdout.toString(), /busybox/);
  const json = JSON.parse((await run(['image', 'inspect', '--json', image])).stdout.toString());
  t.is(json.manifest.argv[0], 'busybox');
  t.true(json.manifest.sites.replaced.length > 0);

  const ran = await run(['run', '--image', image], { input: 'hello\n' });
  t.is(ran.status, 4);
  t.is(ran.stdout.toString(), 'hello from the image\n');
  const log = join(directory, 'x.log');
  t.is((await run(['record', '--image', image, '--log', log], { input: 'hello\n' })).status, 4);
  const inLog = JSON.parse((await run(['image', 'inspect', '--json', log])).stdout.toString());
  t.is(inLog.sha256, json.sha256);

  const byHash = join(directory, 'hash.log');
  t.is(
    (await run(['record', '--image-by-hash', '--image', image, '--log', byHash], { input: 'x\n' })).status,
    4,
  );
  t.true(statSync(byHash).size < 65_536);
  const without = await run(['replay', byHash]);
  t.is(without.status, 125);
  t.regex(without.stderr, /image/);
  t.is((await run(['replay', '--image', image, byHash])).status, 0);
});

test.serial('log info and events, for people and as JSON', async (t) => {
  const log = join(scratch(t), 'x.log');
  await run(['record', '--log', log, '--digest-every', '1', '--', 'busybox', 'cat'], {
    input: 'some input\n',
  });
  const info = await run(['log', 'info', log]);
  t.regex(info.stdout.toString(), /^events +\d+/m);
  t.regex(info.stdout.toString(), /^ended +exited, status 0$/m);
  const infoJson = JSON.parse((await run(['log', 'info', '--json', log])).stdout.toString());
  t.like(infoJson, { version: 3, ending: 'ended', endReason: 'exited', endStatus: 0, inputBytes: 11 });

  const text = await run(['log', 'events', log]);
  t.regex(text.stdout.toString(), /some input/);
  const json = await run(['log', 'events', '--json', log]);
  const records = json.stdout
    .toString()
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  t.deepEqual([...new Set(records.map(({ type }) => type))].sort(), ['digest', 'end', 'event']);
  t.is(records.filter(({ type }) => type === 'event').length, infoJson.events);
  t.is(records.filter(({ type }) => type === 'digest').length, infoJson.digests);
  const inputs = records.flatMap(({ inputs = [] }) => inputs);
  const input = inputs
    .map(({ bytes }: { bytes: string }) => Buffer.from(bytes, 'base64').toString())
    .join('');
  t.is(input, 'some input\n');
});

test.serial('cp from a running machine and from a recording', async (t) => {
  const directory = scratch(t);
  const log = join(directory, 'x.log');
  const control = join(directory, 'control');
  const script = 'echo first > /file; echo ready; read -r x; echo second >> /file; echo again; read -r x';
  const child = spawn(process.execPath, [
    lockstep,
    'record',
    '--quiet',
    '--log',
    log,
    '--control',
    control,
    ...sh(script),
  ]);
  await once(child.stdout, 'data');
  // The program may speak before its machine can be asked.
  while (!existsSync(control)) await sleep(5);
  t.is(statSync(control).mode & 0o777, 0o600);
  const first = await run(['cp', '--control', control, '/file', '-']);
  t.is(first.stdout.toString(), 'first\n', first.stderr);
  const missing = await run(['cp', '--control', control, '/none', '-']);
  t.is(missing.status, 125);
  t.regex(missing.stderr, /\/none/);
  child.stdin.write('\n');
  await once(child.stdout, 'data');
  t.is((await run(['cp', '--control', control, '/file', directory])).status, 0);
  t.is(readFileSync(join(directory, 'file'), 'utf8'), 'first\nsecond\n');
  child.stdin.end();
  t.deepEqual(await once(child, 'close'), [1, null]);
  t.false(existsSync(control));
  t.is((await run(['cp', '--control', control, '/file', '-'])).status, 125);

  // The requests are in the log: it replays.
  t.is((await run(['replay', log])).status, 0);
  const last = await run(['cp', `${log}:/file`, '-']);
  t.is(last.stdout.toString(), 'first\nsecond\n', last.stderr);
  const early = await run(['cp', '--event', '1', `${log}:/file`, '-']);
  t.is(early.stdout.toString(), 'first\n', early.stderr);

  // Also one that asks for nothing, and is over before anybody could ask.
  t.is((await run(['record', '--force', '--log', log, ...sh('echo left > /file; exit 3')])).status, 3);
  t.is((await run(['cp', `${log}:/file`, '-'])).stdout.toString(), 'left\n');
});

test.serial('doctor says what this host can do', async (t) => {
  const { status, stdout } = await run(['doctor']);
  t.is(status, 0);
  t.regex(stdout.toString(), /^ok {4}\/dev\/kvm/m);
  t.regex(stdout.toString(), /can run, record and mirror machines/);
  const json = JSON.parse((await run(['doctor', '--json'])).stdout.toString());
  t.is(json.version, 1);
  t.true(json.usable);
});
