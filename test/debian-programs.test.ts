import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import type { ProgramManifest } from '../lib/image/manifest.js';
import { Image } from '../lib/index.js';
import { run, scratch } from './helpers/command.js';
import { times } from './helpers/pace.js';
import { checkWorkload, onHost } from './helpers/replays.js';
import type { Workload } from './helpers/workloads.js';

const REPLAYS = times(10);
const PYTHON = '/usr/bin/python3';

const directory = mkdtempSync(join(tmpdir(), 'lockstep-debian-'));
test.after.always(() => rmSync(directory, { recursive: true, force: true }));

const script = (name: string, text: string): string => {
  const path = join(directory, name);
  writeFileSync(path, text, { mode: 0o755 });
  return path;
};

const BASH = `#!/bin/bash
declare -A seen
while read -r a b; do ((seen[$a] += b)); printf '%s=%d ' "$a" "\${seen[$a]}"; done
echo; for ((i = 1; i < 300; i++)); do ((s += i * i)); done; echo "$s \${0##*/} \${BASH_VERSINFO[0]}"`;

const LUA = `#!/usr/bin/env lua5.4
local t = {} for i = 1, 20000 do t[i] = (i * 7919) % 10007 end
table.sort(t) print(t[1], t[#t], #t, ("%.12g"):format(math.sin(1)), ("x"):rep(3, "-"))
for line in io.lines() do print(line:upper(), #line) end`;

const SQL = `create table t(a integer primary key, b text);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 3000) insert into t select i, hex(i * 7919) from n;
create index ib on t(b); select count(*), sum(a), max(b) from t; select b from t where a % 500 = 0 order by b;
pragma integrity_check;`;

const PY = `
import hashlib, json, math, os, re, struct, sys, zlib
data = bytes(range(256)) * 400
for name in sorted(hashlib.algorithms_guaranteed):
    h = hashlib.new(name, data)
    print(name, h.hexdigest(16) if name.startswith("shake") else h.hexdigest())
print(zlib.crc32(zlib.compress(data)), json.dumps({"a": [1, 2.5, None]}), math.erf(0.3), struct.pack(">d", 1.1).hex())
print(re.sub(r"(\\w+) (\\w+)", r"\\2 \\1", sys.stdin.read()), os.uname().machine, sys.getfilesystemencoding())`;

const workloads: Workload[] = [
  { name: 'a bash script', argv: [script('a.sh', BASH)], input: ['one 1\n', 'two 2\none', ' 3\n'] },
  { name: 'a lua script by env', argv: [script('a.lua', LUA)], input: ['hello\n', 'world\n'] },
  { name: 'sqlite3', argv: ['sqlite3', ':memory:'], input: [SQL] },
  { name: 'openssl', argv: ['openssl', 'dgst', '-sha3-384'], input: ['some ', 'text\n'] },
  { name: 'python3', argv: [PYTHON, '-c', PY], input: ['to be\n', 'or not\n'] },
];

for (const workload of workloads) {
  test.serial(`${workload.name}: ${REPLAYS} replays, kicked, are what was recorded`, async (t) => {
    await checkWorkload(t, workload, REPLAYS);
  });
}

/** One bash over many openssl commands would need fork; a machine each is quick enough. */
test.serial('every digest and cipher of OpenSSL answers as on the host', async (t) => {
  const input = Buffer.from(Array.from({ length: 5000 }, (_, i) => (i * 31) % 251));
  const list = (what: string) =>
    execFileSync('openssl', ['list', what], { encoding: 'utf8' }).match(/^\s+(\{ )?([\w-]+)/gm) ?? [];
  const names = (what: string) => [...new Set(list(what).map((name) => name.replace(/[\s{]/g, '')))];
  const digests = [
    'md5',
    'sha1',
    'sha256',
    'sha512',
    'sha512-256',
    'sha3-256',
    'blake2b512',
    'blake2s256',
    'sm3',
  ];
  const ciphers = names('-cipher-algorithms').filter(
    (name) =>
      /^(AES|ARIA|CAMELLIA|CHACHA|SM4|DES-EDE)/i.test(name) &&
      !/GCM|CCM|OCB|SIV|WRAP|XTS|CTS|HMAC|POLY/i.test(name),
  );
  t.true(ciphers.length > 20, String(ciphers));
  const key = [
    '-K',
    '00112233445566778899aabbccddeeff',
    '-iv',
    '0f0e0d0c0b0a09080706050403020100',
    '-nosalt',
  ];
  const commands = [
    ...digests.map((name) => ['openssl', 'dgst', `-${name}`]),
    ...ciphers.map((name) => ['openssl', 'enc', `-${name.toLowerCase()}`, ...key]),
  ];
  let same = 0;
  for (const argv of commands) {
    const image = await Image.fromProgram({ argv });
    const path = join(scratch(t), 'image');
    await image.write(path);
    const guest = await run(['run', '--quiet', '--image', path], { input });
    const host = await onHost({ name: '', argv, input: [input.toString('latin1')] }).catch(() => null);
    if (host === null || host.status !== 0) continue;
    t.is(guest.status, 0, argv.join(' ') + guest.stderr);
    const expected = execFileSync('openssl', argv.slice(1), { input, stdio: ['pipe', 'pipe', 'ignore'] });
    t.true(guest.stdout.equals(expected), argv.join(' '));
    same++;
  }
  t.true(same >= digests.length + 20, String(same));
});

/** A program and its libraries in places of its own, with $ORIGIN, RUNPATH and variants by CPU level. */
function makeProgram(root: string): string {
  const [bin, lib] = [join(root, 'bin'), join(root, 'lib')];
  for (const at of [bin, lib, `${lib}/glibc-hwcaps/x86-64-v2`, `${lib}/glibc-hwcaps/x86-64-v3`])
    mkdirSync(at, { recursive: true });
  const compile = (source: string, ...args: string[]) =>
    execFileSync('gcc', ['-xc', '-', '-xnone', ...args], { input: source });
  for (const [at, level] of [
    [lib, 'any'],
    [`${lib}/glibc-hwcaps/x86-64-v2`, 'v2'],
    [`${lib}/glibc-hwcaps/x86-64-v3`, 'v3'],
  ]) {
    const source = `const char *level(void) { return "${level}"; }`;
    compile(source, '-shared', '-fPIC', '-Wl,-soname,liblevel.so.1', '-o', `${at}/liblevel.so.1.0`);
    symlinkSync('liblevel.so.1.0', `${at}/liblevel.so.1`);
  }
  compile(
    `#include <stdio.h>\n#include <dlfcn.h>\nconst char *level(void);
     int main(void) { void *p = dlopen("libplugin.so", RTLD_NOW); int (*f)(void) = p ? dlsym(p, "plugin") : 0;
       printf("%s %d\\n", level(), f ? f() : -1); return 0; }`,
    ...['-o', join(bin, 'program'), `${lib}/liblevel.so.1`, '-Wl,-rpath,$ORIGIN/../lib'],
  );
  compile('int plugin(void) { return 42; }', '-shared', '-fPIC', '-o', join(lib, 'libplugin.so'));
  return join(bin, 'program');
}

test.serial(
  'the CPU model chooses among variants of a library; --file brings what only dlopen asks for',
  async (t) => {
    const root = scratch(t);
    const program = makeProgram(root);
    const plugin = join(root, 'lib/libplugin.so');
    const v2 = await run(['run', '--quiet', '--cpu', 'x86-64-v2', '--', program]);
    t.is(v2.stdout.toString(), 'v2 -1\n', v2.stderr);
    const v3 = await run(['run', '--quiet', '--cpu', 'x86-64-v3', '--file', plugin, '--', program]);
    t.is(v3.stdout.toString(), 'v3 42\n', v3.stderr);
  },
);

test.serial('the tree says what went in and why', async (t) => {
  const root = scratch(t);
  const program = makeProgram(root);
  const sh = join(root, 'run.sh');
  writeFileSync(sh, `#!/usr/bin/env bash\nexec ${program}\n`, { mode: 0o755 });
  const outcome = await run([
    'image',
    '--tree',
    '--json',
    '--file',
    program,
    '--file',
    '/etc/hostname',
    '--',
    sh,
  ]);
  t.is(outcome.status, 0, outcome.stderr);
  const { files, missing } = JSON.parse(outcome.stdout.toString()) as ProgramManifest;
  t.deepEqual(missing, []);
  const why = (path: string) => files.find((file) => file.path === path)?.why;
  t.is(why(sh), 'program');
  t.is(why('/usr/bin/env'), `interpreter of ${sh}`);
  t.is(why('/usr/bin/bash'), `interpreter of ${sh}`);
  t.is(why('/etc/hostname'), '--file');
  t.is(why(program), '--file');
  t.is(why(`${root}/lib/glibc-hwcaps/x86-64-v3/liblevel.so.1.0`), `needed by ${program}`);
  t.regex(why('/usr/lib/locale/C.utf8/LC_CTYPE') ?? '', /^companion of .*libc\.so\.6$/);
  const text = await run(['image', '--tree', '--quiet', '--', sh, '-x']);
  t.regex(text.stdout.toString(), /^ +bash {2}[\d.]+ MiB {2}\[soon\] {2}\(interpreter of/m);
  // The script starts another dynamic program by execve.
  const ran = await run(['run', '--quiet', '--file', program, '--', sh]);
  t.regex(ran.stdout.toString(), /^v[23] -1\n$/, ran.stderr);
});

test.serial('what a packed plugin lacks is said, and does not stop the program', async (t) => {
  const root = scratch(t);
  const compile = (source: string, ...args: string[]) =>
    execFileSync('gcc', ['-xc', '-', '-xnone', ...args], { input: source });
  compile('int gone(void) { return 1; }', '-shared', '-fPIC', '-o', join(root, 'libgone.so'));
  const plugin = join(root, 'libplugin.so');
  compile(
    'int gone(void); int f(void) { return gone(); }',
    '-shared',
    '-fPIC',
    '-o',
    plugin,
    '-L',
    root,
    '-lgone',
  );
  renameSync(join(root, 'libgone.so'), join(root, 'elsewhere'));
  const image = await Image.fromProgram({ argv: ['/bin/true'], files: [{ host: plugin }] });
  const { manifest } = await image.inspect();
  t.deepEqual((manifest as ProgramManifest).missing, [{ library: 'libgone.so', neededBy: plugin }]);
});
