/** Debian's dynamic programs, unmodified: what is packed for them, and that they replay exactly. */
import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { Image } from '../lib/index.js';
import { run, scratch } from './helpers/command.js';
import { checkWorkload } from './helpers/replays.js';
import type { Workload } from './helpers/workloads.js';

const PYTHON = `
import hashlib, json, math, re, struct, sqlite3, sys, zlib
words = re.findall(r'[a-z]+', 'the quick brown fox jumps over the lazy dog' * 20)
print(json.dumps({w: words.count(w) for w in sorted(set(words))}))
print(hashlib.sha256(' '.join(words).encode()).hexdigest(), zlib.crc32(b'x' * 10000), math.sin(2.0))
table = sqlite3.connect(':memory:')
table.execute('create table t(n)')
table.executemany('insert into t values(?)', [(n * n % 97,) for n in range(500)])
print(table.execute('select sum(n), max(n) from t').fetchone(), struct.pack('>Id', 7, 1.5), sys.argv)
sys.exit(5)
`;

const WORKLOADS: Workload[] = [
  {
    name: 'bash',
    argv: ['/bin/bash', '-c', 'while read -r n; do t=$((t + n)); printf "%s %x\\n" "$n" "$t"; done; exit 3'],
    input: ['1\n22\n', '333\n', '4444\n'],
  },
  { name: 'lua5.4', argv: ['lua5.4', '-e', 'for i = 1, 50 do print(i, math.sqrt(i), ("x"):rep(i % 7)) end'] },
  {
    name: 'sqlite3',
    argv: ['sqlite3', ':memory:'],
    input: [
      'create table t(a, b);\n',
      "insert into t values(1, 'one'), (2, 'two');\n",
      'select sum(a), max(b) from t;\n',
    ],
  },
  { name: 'openssl', argv: ['openssl', 'dgst', '-sha256'], input: ['some ', 'text\n'] },
  { name: 'python3', argv: ['/usr/bin/python3', '-c', PYTHON, 'word'] },
];

for (const workload of WORKLOADS) {
  test.serial(`${workload.name} does what it does on the host, and replays exactly`, async (t) => {
    await checkWorkload(t, workload, 2);
  });
}

/** A program with a library of its own in `lib` beside it, found by what `flags` say. */
function withLibrary(directory: string, ...flags: string[]): string {
  mkdirSync(join(directory, 'lib'), { recursive: true });
  const file = (name: string): string => join(directory, name);
  writeFileSync(file('answer.c'), 'int answer(void) { return 42; }');
  writeFileSync(
    file('main.c'),
    '#include <stdio.h>\nint answer(void); int main() { printf("%d\\n", answer()); }',
  );
  const library = file('lib/libanswer.so.1');
  execFileSync('gcc', ['-shared', '-fPIC', '-Wl,-soname,libanswer.so.1', '-o', library, file('answer.c')]);
  execFileSync('gcc', ['-o', file('main'), file('main.c'), library, ...flags]);
  return file('main');
}

for (const [name, ...flags] of [
  ['RUNPATH', '-Wl,--enable-new-dtags,-rpath,$ORIGIN/lib'],
  ['RPATH', '-Wl,--disable-new-dtags,-rpath,$ORIGIN/./lib'],
] as [string, ...string[]][]) {
  test.serial(`a library found by ${name} and $ORIGIN`, async (t) => {
    const program = withLibrary(scratch(t), ...flags);
    const { status, stdout, stderr } = await run(['run', '--', program]);
    t.is(stdout.toString(), '42\n', stderr.toString());
    t.is(status, 0);
  });
}

test.serial('a library found by LD_LIBRARY_PATH or brought by --file, else named as missing', async (t) => {
  const here = scratch(t);
  const program = withLibrary(here);
  const lacking = await run(['run', '--', program]);
  t.is(lacking.status, 126);
  t.true(lacking.stderr.toString().includes(`libanswer.so.1 is not found, which ${program} needs`));
  await t.throwsAsync(Image.fromProgram({ argv: [program] }), { code: 'ERR_LOCKSTEP_PROGRAM_NOT_RUNNABLE' });
  const library = join(here, 'lib/libanswer.so.1');
  for (const flags of [
    ['--env', `LD_LIBRARY_PATH=${here}/lib`],
    ['--file', `${library}:/usr/lib/libanswer.so.1`],
  ]) {
    const { stdout, stderr } = await run(['run', ...flags, '--', program]);
    t.is(stdout.toString(), '42\n', stderr.toString());
  }
});

test.serial('scripts bring their interpreters, also by env', async (t) => {
  const here = scratch(t);
  const script = (name: string, text: string): string => {
    writeFileSync(join(here, name), text);
    chmodSync(join(here, name), 0o755);
    return join(here, name);
  };
  for (const file of [
    script('direct', '#!/bin/bash\necho "bash $1"\n'),
    script('by-env', '#!/usr/bin/env bash\necho "bash $1"\n'),
  ]) {
    const { status, stdout, stderr } = await run(['run', '--', file, 'word']);
    t.is(stdout.toString(), 'bash word\n', stderr.toString());
    t.is(status, 0);
  }
});

test.serial('image inspect --tree says what went in and why', async (t) => {
  const here = scratch(t);
  const image = join(here, 'x.image');
  const program = join(here, 'lua');
  copyFileSync('/usr/bin/lua5.4', program);
  t.is((await run(['image', 'pack', '-o', image, '--', program])).status, 0);
  const tree = (await run(['image', 'inspect', '--tree', image])).stdout.toString();
  t.regex(tree, /^ +lua {2}.*\(program\)$/m);
  t.regex(tree, /^ +libc\.so\.6 {2}.*\(needed by .*lua.*\)$/m);
  t.regex(tree, /^ +lib64? -> usr\/lib.*\(link to .*\)$/m);
  t.regex(tree, /\(dynamic linker of .*lua\)$/m);
  // The loader asks CPUID; nothing that was found there is left as it was.
  const { manifest } = await (await Image.open(image)).inspect();
  if (manifest.kind !== 'program') return t.fail();
  t.true(
    manifest.sites.replaced.some(
      ({ file, instruction }) => /ld-linux/.test(file) && /cpuid/.test(instruction),
    ),
  );
  t.deepEqual(manifest.missing, []);
});
