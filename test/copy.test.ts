/** `lockstep cp`: out of running machines, recordings, and the side of a pair that took over. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { SideProcess } from '../lib/control/side-process.js';
import { parseTree } from '../lib/guest-tree-answer.js';
import { command, lockstep, run, scratch } from './helpers/command.js';

const FILES = 1500;
/** Makes small files by the hundred, one that is large, and one that nobody but its owner may read. */
const SCRIPT = `cd /tree; umask 077; i=0
  while [ $i -lt ${FILES} ]; do echo "file $i" > many/$i; i=$((i+1)); done
  : > empty; echo ready; read -r x; echo again; read -r x`;

/** What the guest gets: directories ten deep, links to a file, to a directory and to nothing, a large file. */
function hostTree(directory: string): string {
  const tree = join(directory, 'tree');
  const deep = join(tree, ...Array.from({ length: 10 }, (_, index) => `level${index}`));
  mkdirSync(deep, { recursive: true });
  for (const name of ['many', 'bare']) mkdirSync(join(tree, name));
  writeFileSync(join(deep, 'bottom'), 'deep down\n');
  writeFileSync(
    join(tree, 'large'),
    Uint8Array.from({ length: 300_001 }, (_, index) => (index * 131 + (index >> 8)) & 0xff),
  );
  writeFileSync(join(tree, 'runs'), '#!/bin/sh\n', { mode: 0o755 });
  symlinkSync('large', join(tree, 'to-file'));
  symlinkSync('level0', join(tree, 'to-directory'));
  symlinkSync('nowhere/at all', join(tree, 'to-nothing'));
  return tree;
}

function checkCopy(t: ExecutionContext, tree: string, copy: string, what: string): void {
  t.is(
    readFileSync(
      join(copy, 'level0/level1/level2/level3/level4/level5/level6/level7/level8/level9/bottom'),
      'utf8',
    ),
    'deep down\n',
    what,
  );
  t.true(readFileSync(join(copy, 'large')).equals(readFileSync(join(tree, 'large'))), what);
  t.deepEqual(readdirSync(copy).sort(), [...readdirSync(tree), 'empty'].sort(), what);
  for (const name of ['to-file', 'to-directory', 'to-nothing'])
    t.true(lstatSync(join(copy, name)).isSymbolicLink(), `${what}: ${name}`);
  t.is(lstatSync(join(copy, 'runs')).mode & 0o777, 0o755, what);
  t.is(lstatSync(join(copy, 'many/0')).mode & 0o777, 0o600, what);
  t.deepEqual(readdirSync(join(copy, 'bare')), [], what);
  const names = readdirSync(join(copy, 'many'));
  t.is(names.length, FILES, what);
  for (const name of names) t.is(readFileSync(join(copy, 'many', name), 'utf8'), `file ${name}\n`, what);
}

test.serial('a directory is copied out of a running machine and out of its recording', async (t) => {
  const directory = scratch(t);
  const tree = hostTree(directory);
  const [log, control] = [join(directory, 'x.log'), join(directory, 'control')];
  const options = ['--quiet', '--log', log, '--control', control, '--file', `${tree}:/tree`];
  const program = ['--', 'busybox', 'sh', '-c', SCRIPT];
  const child = spawn(process.execPath, [lockstep, 'record', ...options, ...program]);
  await once(child.stdout, 'data');
  while (!existsSync(control)) await sleep(5);
  const copy = (...args: string[]) => run(['cp', '--control', control, ...args]);

  const target = join(directory, 'copy');
  const whole = await copy('-r', '/tree', target);
  t.is(whole.status, 0, whole.stderr);
  checkCopy(t, tree, target, 'running');
  // As cp does: into a directory that is there, but never into a copy that is there.
  mkdirSync(join(directory, 'into'));
  t.is((await copy('--recursive', '/tree', join(directory, 'into'))).status, 0);
  checkCopy(t, tree, join(directory, 'into/tree'), 'into');
  const twice = await copy('-r', '/tree', join(directory, 'into'));
  t.is(twice.status, 125);
  t.regex(twice.stderr, /into\/tree exists already/);

  const plain = await copy('/tree', join(directory, 'plain'));
  t.is(plain.status, 125);
  t.regex(plain.stderr, /\/tree is a directory\n.*--recursive/);
  t.false(existsSync(join(directory, 'plain')));
  const one = await copy('-r', '/tree/runs', join(directory, 'one'));
  t.is(one.status, 0, one.stderr);
  t.is(readFileSync(join(directory, 'one'), 'utf8'), '#!/bin/sh\n');
  t.is((await copy('-r', '/tree', '-')).status, 125);
  const missing = await copy('-r', '/none', join(directory, 'none'));
  t.is(missing.status, 125);
  t.regex(missing.stderr, /\/none: No such file/);
  t.false(existsSync(join(directory, 'none')));
  const proc = await copy('-r', '/proc', join(directory, 'proc'));
  t.is(proc.status, 0, proc.stderr);
  t.regex(proc.stderr, /left out, .*meminfo/);

  child.stdin.end('\n\n');
  await once(child, 'close');
  // The requests are in the log: it replays.
  t.is((await run(['replay', log])).status, 0);
  const recorded = await run(['cp', '-r', `${log}:/tree`, join(directory, 'recorded')]);
  t.is(recorded.status, 0, recorded.stderr);
  checkCopy(t, tree, join(directory, 'recorded'), 'recorded');
  const there = await run(['cp', '-r', `${log}:/tree`, join(directory, 'recorded', 'large')]);
  t.is(there.status, 125);
  t.regex(there.stderr, /exists already/);
});

test.serial('a shadow answers once it is live, and says so before', async (t) => {
  const directory = scratch(t);
  const at = (name: string) => join(directory, name);
  const shared = ['--link', `unix:${at('link')}`, '--arbiter', `file:${at('arbiter')}`];
  const own = (name: string) => [
    ...['--console', `unix:${at(`${name}.console`)}`, '--log', at(`${name}.log`)],
    ...['--control', at(`${name}.control`)],
  ];
  const script = 'echo kept > /note; read -r line';
  const primary = new SideProcess('primary', [
    ...shared,
    ...own('primary'),
    '--',
    'busybox',
    'sh',
    '-c',
    script,
  ]);
  await primary.notice('listening');
  const shadow = new SideProcess('shadow', [...shared, ...own('shadow')]);
  await primary.notice('armed');
  const read = (side: string, path: string) => run(['cp', '--control', at(`${side}.control`), path, '-']);

  // The program has made its note once it waits.
  let note = await read('primary', '/note');
  for (let tries = 0; note.status !== 0 && tries < 50; tries++) note = await read('primary', '/note');
  t.is(note.stdout.toString(), 'kept\n', note.stderr);
  const early = await read('shadow', '/note');
  t.is(early.status, 125);
  t.regex(early.stderr, /this side is a shadow, and answers only once it is live\n.*primary/);

  primary.kill();
  await shadow.notice('live');
  const after = await read('shadow', '/note');
  t.is(after.stdout.toString(), 'kept\n', after.stderr);
  const copied = await run(['cp', '-r', '--control', at('shadow.control'), '/note', at('note')]);
  t.is(copied.status, 0, copied.stderr);
  t.is(readFileSync(at('note'), 'utf8'), 'kept\n');
  await command(['kill', `${shadow.pid}`]);
  t.is(await shadow.end(), 'status 143');
  for (const side of ['primary', 'shadow']) {
    const { status, stderr } = await run(['replay', at(`${side}.log`)]);
    t.is(status, 0, `${side}: ${stderr}`);
  }
});

test("a guest's answer cannot lead a copy out of its directory", (t) => {
  const [directory, file, link] = [0o040755, 0o100644, 0o120777];
  const answer = (...entries: [number, string, string?][]) =>
    Buffer.concat(
      entries.map(([mode, name, contents = '']) => {
        const head = Buffer.alloc(16);
        head.writeUInt32LE(mode, 0);
        head.writeUInt32LE(Buffer.byteLength(name), 4);
        head.writeBigUInt64LE(BigInt(Buffer.byteLength(contents)), 8);
        return Buffer.concat([head, Buffer.from(name), Buffer.from(contents)]);
      }),
    );
  const good = answer(
    [directory, ''],
    [directory, 'a'],
    [file, 'a/b', 'text'],
    [link, 'c', '/etc'],
    [0, 'd'],
  );
  t.deepEqual(
    parseTree(good).map(({ name, type, target }) => [name, type, target]),
    [
      ['', 'directory', undefined],
      ['a', 'directory', undefined],
      ['a/b', 'file', undefined],
      ['c', 'link', '/etc'],
      ['d', 'other', undefined],
    ],
  );
  const refused: [string, Buffer][] = [
    ['nothing', Buffer.alloc(0)],
    ['a name first', answer([file, 'x'])],
    ['up', answer([directory, ''], [file, '../x'])],
    ['up below', answer([directory, ''], [directory, 'a'], [file, 'a/../../x'])],
    ['two dots', answer([directory, ''], [directory, '..'])],
    ['absolute', answer([directory, ''], [file, '/etc/x'])],
    ['through a link', answer([directory, ''], [link, 'a', '/etc'], [file, 'a/x'])],
    ['through a file', answer([directory, ''], [file, 'a'], [file, 'a/x'])],
    ['twice', answer([directory, ''], [file, 'a'], [file, 'a'])],
    ['a NUL', answer([directory, ''], [file, 'a\0b'])],
    ['below a file', answer([file, ''], [file, 'a'])],
  ];
  for (let bytes = 1; bytes < good.length; bytes++) {
    const boundary = [16, 33, 56, 77].includes(bytes);
    if (!boundary) refused.push([`cut after ${bytes}`, good.subarray(0, bytes)]);
  }
  for (const [what, bytes] of refused)
    t.throws(() => parseTree(bytes), { code: 'ERR_LOCKSTEP_GUEST_FILE' }, what);
});
