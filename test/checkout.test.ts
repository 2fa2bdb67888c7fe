import { execFileSync, spawnSync } from 'node:child_process';
import { accessSync, constants, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const read = (path: string) => readFileSync(join(root, path), 'utf8');
const lockstep = join(root, 'bin/lockstep.js');

test('bindings.gyp lists every native source, and nothing else', (t) => {
  const program =
    "import ast,json; print(json.dumps(ast.literal_eval(open('bindings.gyp').read())['variables']))";
  const lists = JSON.parse(execFileSync('python3', ['-c', program], { cwd: root, encoding: 'utf8' }));
  const listed = [
    'core_sources',
    'node_sources',
    'guest_sources',
    'net_sources',
    'core_test_sources',
    'relay_sources',
  ].flatMap((name) => lists[name]);
  const there = readdirSync(join(root, 'native'), { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.(cc|c|S)$/.test(name) && !name.includes('fuzz_'))
    .map((name) => join('native', name));
  t.deepEqual([...listed].sort(), there.sort());
});

test('the lock file names no registry', (t) => {
  t.false(read('package-lock.json').includes('"resolved"'));
});

test('versions are exact', (t) => {
  const { dependencies, devDependencies } = JSON.parse(read('package.json'));
  for (const version of Object.values({ ...dependencies, ...devDependencies }))
    t.regex(String(version), /^\d+\.\d+\.\d+$/);
});

test('the command is executable and answers --help with no addon in sight', (t) => {
  accessSync(lockstep, constants.X_OK);
  const { status, stdout } = spawnSync(lockstep, ['--help'], { encoding: 'utf8' });
  t.is(status, 0);
  for (const name of [
    'doctor',
    'image',
    'run',
    'record',
    'replay',
    'log',
    'cp',
    'primary',
    'shadow',
    'console',
    'demo',
  ]) {
    t.regex(stdout, new RegExp(`^  ${name}\\b`, 'm'));
  }
});

test('wrong use exits 125 with one sentence on stderr', (t) => {
  for (const args of [['nothing'], ['record', '--', 'true'], ['run', '--memory', 'x'], ['run']]) {
    const { status, stdout, stderr } = spawnSync(lockstep, args, { encoding: 'utf8' });
    t.is(status, 125, args.join(' '));
    t.is(stdout, '', args.join(' '));
    t.true(stderr.length > 0 && !stderr.includes('    at '), stderr);
  }
});
