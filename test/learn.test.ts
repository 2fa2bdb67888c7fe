/** What a program touches of its image, and images laid out by it. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { inspectFront, inspectImage } from '../lib/image/image-file.js';
import { Image } from '../lib/image.js';
import { arrange } from '../lib/learn/arrange.js';
import { globMatcher } from '../lib/learn/glob.js';
import { bytesByGroup, Group, groupsOf } from '../lib/learn/groups.js';
import { learn, type Marker } from '../lib/learn/learn.js';
import { type Place, placesOf } from '../lib/learn/places.js';
import { isProfile, mergeProfiles, type Profile, parseProfile, profileOf } from '../lib/learn/profile.js';
import { Machine } from '../lib/machine.js';
import { Recording, record } from '../lib/recording.js';
import { publish } from '../lib/stream/publish.js';
import { decodePublished } from '../lib/stream/published.js';
import { lockstep, run, scratch } from './helpers/command.js';
import { patience } from './helpers/pace.js';

/** Bytes that do not compress, the same each time. */
function noise(name: string, bytes: number): Buffer {
  return createHash('shake256', { outputLength: bytes }).update(name).digest();
}

/** A guest that prints a file among many, each of several pages. */
async function catImage(directory: string, argv = ['busybox', 'cat', '/t/f7']): Promise<Image> {
  const tree = join(directory, 'tree');
  mkdirSync(tree, { recursive: true });
  for (let i = 0; i < 40; i++) writeFileSync(join(tree, `f${i}`), noise(`f${i}`, 9000 + 700 * i));
  return Image.fromProgram({ argv, files: [{ host: tree, guest: '/t' }] });
}

async function placesIn(image: Image) {
  return placesOf(await image.inspect(), async (at, bytes) => image.bytes.subarray(at, at + bytes));
}

test('glob patterns', (t) => {
  const matches = (pattern: string, path: string): boolean => globMatcher(pattern)(path);
  t.true(matches('*.html', '/srv/www/a.html'));
  t.false(matches('*.html', '/srv/www/a.htm'));
  t.true(matches('/srv/*/a', '/srv/www/a'));
  t.false(matches('/srv/*', '/srv.d/x'));
  t.true(matches('/srv/**/a', '/srv/a'));
  t.true(matches('/srv/**/a', '/srv/b/c/a'));
  t.true(matches('/srv', '/srv/b/c'), 'all below a directory');
  t.true(matches('lib/python?.1[1]', '/lib/python3.1[1]/os.py'), 'brackets are themselves');
  t.false(matches('a.c', '/abc'));
});

test('a run touches the file it reads and no other', async (t) => {
  const image = await catImage(scratch(t));
  const heard: Uint8Array[] = [];
  const options = { marker: { until: 'exit' }, onOutput: (bytes: Uint8Array) => heard.push(bytes) } as const;
  const profile = await learn(image, options);
  t.true(Buffer.concat(heard).equals(noise('f7', 9000 + 4900)));
  t.deepEqual(profile.places['/t/f7'], [[0, 9000 + 4900, 1]]);
  const files = Object.keys(profile.places).filter((name) => name.startsWith('/t/'));
  t.deepEqual(files, ['/t/f7']);
  t.true('/usr/bin/busybox' in profile.places && 'kernel' in profile.places && 'index' in profile.places);
  // Of a program that is large, only parts.
  const size = readFileSync('/bin/busybox').length;
  const touched = profile.places['/usr/bin/busybox']?.reduce((sum, [, bytes]) => sum + bytes, 0) ?? 0;
  t.true(touched > 0 && touched < size / 2, `${touched} of ${size}`);
  const again = await learn(image, { ...options, runs: 2 });
  t.is(again.runs, 2);
  t.deepEqual(again.places['/t/f7'], [[0, 9000 + 4900, 2]]);
});

test('a run is watched up to its marker', async (t) => {
  const directory = scratch(t);
  const script = 'echo first; read x < /t/f1; echo second; read x < /t/f2; echo third';
  const image = await catImage(directory, ['busybox', 'sh', '-c', script]);
  const filesOf = async (marker: Parameters<typeof learn>[1]): Promise<string[]> => {
    const { places } = await learn(image, { ...marker, kicks: undefined });
    return Object.keys(places).filter((name) => name.startsWith('/t/'));
  };
  // What comes behind a marker may have begun before it is heard of.
  t.true((await filesOf({ marker: { until: 'pattern', pattern: /second/ } })).includes('/t/f1'));
  t.deepEqual((await filesOf({ marker: { until: 'exit' } })).sort(), ['/t/f1', '/t/f2']);
  const missed = await t.throwsAsync(learn(image, { marker: { until: 'pattern', pattern: /fourth/ } }));
  t.like(missed, { code: 'ERR_LOCKSTEP_LEARN' });
  t.regex(missed?.message ?? '', /ended first/);
  const waits = await catImage(directory, ['busybox', 'sleep', '100']);
  const late = await t.throwsAsync(learn(waits, { timeoutMs: 500 }));
  t.like(late, { code: 'ERR_LOCKSTEP_LEARN' });
});

test('what a run touches soon after its moment comes soon, and does not keep it from starting', async (t) => {
  const script = 'read x < /t/f1; echo first; read -t 1 y; read x < /t/f2; read y';
  const image = await catImage(scratch(t), ['busybox', 'sh', '-c', script]);
  // Its input stays open.
  const waits = { marker: { until: 'pattern', pattern: /first/ }, client: async () => {} } as const;
  const none = await learn(image, { ...waits, afterMs: 0 });
  t.deepEqual(
    none.places['/t/f1']?.map(([, , runs]) => runs),
    [1],
  );
  t.false('/t/f2' in none.places);
  // However slow this host is.
  const profile = await learn(image, { ...waits, afterMs: patience(4000), runs: 2 });
  t.deepEqual(
    profile.places['/t/f2']?.map(([, , runs]) => runs),
    [0],
  );
  const pages = { ...(await image.inspect()), blockBytes: 4096 };
  const places = await placesIn(image);
  const groups = groupsOf(pages, places, { profile });
  const groupsIn = (name: string) =>
    [...bytesByGroup(pages, places.find((place) => place.name === name) as Place, groups).keys()].sort();
  t.true(groupsIn('/t/f1').includes(Group.START));
  t.true(groupsIn('/t/f2').includes(Group.SOON));
  t.false(groupsIn('/t/f3').includes(Group.SOON));
});

test('a recording is learned from as a run is, up to an event exactly', async (t) => {
  const directory = scratch(t);
  const script = 'read x < /t/f1; read y; read x < /t/f2; read y; read x < /t/f3; echo $y';
  const image = await catImage(directory, ['busybox', 'sh', '-c', script]);
  const log = join(directory, 'x.log');
  const machine = await record(image, { log, digestEvery: 1 });
  for (const word of ['one', 'two']) {
    const before = machine.stats().lsn;
    machine.stdin.write(`${word}\n`);
    while (machine.stats().lsn === before) await sleep(5);
  }
  machine.stdin.end();
  t.is(await text(machine.stdout), 'two\n');
  await machine.ended;
  await machine.close();
  const recording = await Recording.open(log);
  const filesUpTo = async (marker: Marker): Promise<string[]> =>
    Object.keys((await learn(recording, { marker })).places).filter((name) => name.startsWith('/t/'));
  t.deepEqual((await filesUpTo({ until: 'exit' })).sort(), ['/t/f1', '/t/f2', '/t/f3']);
  const events = Array.from({ length: recording.info.events }, (_, i) => i + 1);
  const seen = [];
  for (const event of events) seen.push((await filesUpTo({ until: 'event', event })).length);
  t.deepEqual(
    [...seen].sort((a, b) => a - b),
    seen,
    'the longer, the more',
  );
  t.true(seen.includes(1) && seen.includes(2), `${seen}`);
  const profile = join(directory, 'x.profile');
  const told = await run(['learn', log, '-o', profile, '--until', 'exit']);
  t.is(told.status, 0, told.stderr);
  t.true('/t/f3' in (parseProfile(readFileSync(profile, 'utf8'))?.places ?? {}));
});

test('profiles add up, and serve the next version of an image', async (t) => {
  const a = { version: 1, runs: 1, places: { '/x': [[0, 8192, 1]] } } as const;
  const b = { version: 1, runs: 2, places: { '/x': [[4096, 8192, 2]], '/y': [[0, 10, 1]] } } as const;
  const both = mergeProfiles(
    [parseProfile(JSON.stringify(a)), parseProfile(JSON.stringify(b))].map((p) => p ?? (t.fail() as never)),
  );
  t.deepEqual(both, {
    version: 1,
    runs: 3,
    places: {
      '/x': [
        [0, 4096, 1],
        [4096, 4096, 3],
        [8192, 4096, 2],
      ],
      '/y': [[0, 10, 1]],
    },
  });
  // Touched after the moment only, by one run, and before it by another.
  const after = {
    version: 1,
    runs: 1,
    places: {
      '/x': [[0, 8192, 0]],
      '/z': [
        [0, 10, 0],
        [10, 10, 0],
      ],
    },
  };
  const late = mergeProfiles([after as unknown as Profile, { ...b } as unknown as Profile]);
  t.deepEqual(late.places, {
    '/x': [
      [0, 4096, 0],
      [4096, 8192, 2],
    ],
    '/y': [[0, 10, 1]],
    '/z': [[0, 20, 0]],
  });
  for (const bad of [
    '',
    '{}',
    '{"version":2,"runs":1,"places":{}}',
    '{"version":1,"runs":1,"places":{"a":[[0,-1,1]]}}',
  ])
    t.false(isProfile(parseProfile(bad)), bad);

  const places = [
    { name: 'kernel', gpa: 0x100000, bytes: 0x2000 },
    { name: 'kernel', gpa: 0x104000, bytes: 0x1800 },
    { name: '/small', gpa: 0x200010, bytes: 100 },
    { name: '/other', gpa: 0x200100, bytes: 100 },
  ];
  t.deepEqual(profileOf(places, [0x105, 0x101, 0x200]).places, {
    kernel: [
      [0x1000, 0x1000, 1],
      [0x5000, 0x800, 1],
    ],
    '/small': [[0, 100, 1]],
    '/other': [[0, 100, 1]],
  });
});

test('groups follow the profile, --first and --last', async (t) => {
  const directory = scratch(t);
  const image = await catImage(directory);
  const info = await image.inspect();
  const places = await placesIn(image);
  const place = (name: string) => places.find((one) => one.name === name) ?? (t.fail() as never);
  const of = (name: string, groups: Group[]) => [...bytesByGroup(info, place(name), groups).keys()];

  const unlearned = groupsOf(info, places);
  t.deepEqual(of('kernel', unlearned), [Group.START]);
  t.true(of('/usr/bin/busybox', unlearned).includes(Group.SOON));
  t.true(of('/t/f30', unlearned).includes(Group.REST));
  const profile = {
    version: 1,
    runs: 4,
    places: { '/t/f30': [[0, 4096, 1]], '/t/f39': [[0, 36_000, 2]] },
  } as never;
  const learned = groupsOf(info, places, { profile, last: ['/t/f3*'], first: ['f38'] });
  t.true(of('/t/f38', learned).every((group) => group === Group.START));
  t.true(of('/t/f35', learned).includes(Group.LAST));
  t.false(of('/t/f20', learned).includes(Group.LAST));
  const kept = groupsOf(info, places, { profile });
  t.true(of('/t/f39', kept).includes(Group.START));
  t.true(of('/t/f30', kept).includes(Group.SOON));
});

test('an image laid out by a profile is the same memory, and runs the same', async (t) => {
  const directory = scratch(t);
  const image = await catImage(directory);
  const profile = await learn(image, { marker: { until: 'exit' } });
  const front = inspectFront(image.bytes);
  const read = async (at: number, bytes: number) => image.bytes.subarray(at, at + bytes);
  const arranged = await arrange(front, await placesIn(image), { profile }, read);
  const { contentOffset, contentBytes } = arranged.image;
  const file = Buffer.concat([arranged.front, await arranged.read(contentOffset, contentBytes)]);
  const info = inspectImage(file);
  t.not(info.sha256, front.sha256);

  const memoryOf = (bytes: Uint8Array, { segments, memoryBytes }: typeof info): Buffer => {
    const memory = Buffer.alloc(memoryBytes);
    for (const { gpa, bytes: length, fileOffset } of segments)
      memory.set(bytes.subarray(fileOffset, fileOffset + length), gpa);
    return memory;
  };
  t.true(memoryOf(file, info).equals(memoryOf(image.bytes, front)));
  const output = async (of: Image): Promise<string> => {
    await using machine = await Machine.create(of, { stdin: 'ignore', stderr: 'ignore' });
    await machine.start();
    return createHash('sha256')
      .update(await text(machine.stdout))
      .digest('hex');
  };
  t.is(await output(await Image.fromBytes(file)), await output(image));

  // What was touched fills blocks of its own: a run of the new image touches little else.
  const again = await Image.fromBytes(file);
  const touched = await learn(again, { marker: { until: 'exit' } });
  const groups = groupsOf(info, await placesIn(again), { profile: touched });
  const needed = groups.filter((group) => group === Group.START).length;
  const pages =
    Object.values(profile.places)
      .flat()
      .reduce((sum, [, bytes]) => sum + bytes, 0) / 4096;
  t.true(needed <= Math.ceil((pages + 40) / 8) + 2, `${needed} blocks for ${pages} pages`);
});

test('publish takes a profile, and the next version has it too', async (t) => {
  const directory = scratch(t);
  const image = await catImage(directory);
  const [file, profile, out] = ['x.lsm', 'x.profile', 'out'].map((name) => join(directory, name)) as [
    string,
    string,
    string,
  ];
  await image.write(file);
  const learned = await run(['learn', file, '-o', profile, '--until', 'exit', '--runs', '2']);
  t.is(learned.status, 0, learned.stderr);
  t.regex(
    learned.stderr,
    /2 runs touched [\d.]+ [KM]iB of [\d.]+ MiB(, and [\d.]+ KiB soon after)?, in \d+ files/,
  );
  t.is((await run(['learn', file, '-o', profile])).status, 125, 'an existing profile is kept');
  t.is((await run(['learn', file, '-o', profile, '--add', '--until', 'exit'])).status, 0);
  t.like(parseProfile(readFileSync(profile, 'utf8')), { runs: 3 });

  const groupsIn = async (): Promise<number[]> =>
    (await decodePublished(readFileSync(join(out, 'x.lsm')), 'x')).groups;
  await publish(file, out);
  const [unlearned] = await groupsIn();
  const done = await run(['publish', file, out, '--profile', profile, '--last', '/t/f1*']);
  t.is(done.status, 0, done.stderr);
  const [start, , , last] = await groupsIn();
  t.true((start ?? 0) < (unlearned ?? 0) + 30 && (last ?? 0) > 0);
  // The same program with another file: nothing is said of priorities.
  writeFileSync(join(directory, 'tree/f41'), noise('f41', 20_000));
  await (await catImage(directory)).write(file, { force: true });
  const again = await publish(file, out);
  t.true(again.bytesWritten < again.bytes / 3, `${again.bytesWritten} of ${again.bytes}`);
  const [startAgain, , , lastAgain] = await groupsIn();
  t.true(Math.abs((startAgain ?? 0) - (start ?? 0)) <= 2);
  t.true((lastAgain ?? 0) > 0);

  const tree = execFileSync(
    process.execPath,
    [lockstep, 'image', 'inspect', '--tree', '--profile', profile, file],
    { encoding: 'utf8' },
  );
  t.regex(tree, /^ *f7 .*\[start/m);
  t.regex(tree, /^ *f30 .*\[.*rest/m);
});
