// `npm run test:emulated`: the tests on a machine without /dev/kvm. What needs a machine runs on emulated hosts, one
// for each file of tests, as many at a time as there are processors; the rest runs here. There is less of
// everything that is repeated (test/helpers/pace.ts). The last line is exactly `N passed, N failed`.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { root, setUp } from '../setup.mjs';
import { runTap, total } from '../tap.mjs';

/** Of the tests in TypeScript, those that start no machine. */
const WITHOUT_MACHINES = ['cli-options', 'console-client', 'image-pack', 'image-sites'];
/** Stops its recorder every 1.5 ms, in which an emulated one gets next to nothing done. Said, not hidden. */
const LEFT_OUT = ['stopped-recording'];
const LIMIT_MS = 40 * 60_000;
/** The longest first, so that nobody waits for one at the end. */
const LONGEST = ['determinism', 'debian-programs', 'lifecycle', 'bad-input', 'damaged-log', 'pair-takeover'];

setUp({ groups: ['demo', 'unplug', 'test', 'emulated'], coreTests: true });

// What the packer finds in a program is kept in a cache (lib/image/site-cache.ts). Filled here, where it is quick,
// it is there on every emulated host.
const PROGRAMS = ['busybox', 'bash-static', 'zsh-static', 'bash', 'lua5.4', 'openssl', 'python3', 'sqlite3'];
const thrown = mkdtempSync(join(tmpdir(), 'lockstep-packed-'));
for (const program of PROGRAMS) {
  const pack = ['bin/lockstep.js', 'image', 'pack', '--quiet', '-o', join(thrown, program), '--', program];
  spawnSync(process.execPath, pack, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
}
rmSync(thrown, { recursive: true });

const ava = (names) => [
  process.execPath,
  'node_modules/ava/entrypoints/cli.mjs',
  '--tap',
  ...names.map((name) => `test/${name}.test.ts`),
];
const names = readdirSync(join(root, 'test'))
  .map((file) => /^(.*)\.test\.ts$/.exec(file)?.[1])
  .filter((name) => name && !WITHOUT_MACHINES.includes(name) && !LEFT_OUT.includes(name));
const others = names.filter((name) => !LONGEST.includes(name));
const waiting = [['build/Release/core_test'], ...[...LONGEST, ...others].map((name) => ava([name]))];

for (const name of LEFT_OUT)
  console.log(`# left out, for a machine with a /dev/kvm of its own: test/${name}.test.ts`);

const [node, ...here] = ava(WITHOUT_MACHINES);
const runs = [await runTap(node, here, { cwd: root, timeout: LIMIT_MS })];
const host = join(root, 'scripts/emulated/host.mjs');
const worker = async () => {
  for (let command = waiting.shift(); command; command = waiting.shift()) {
    const started = Date.now();
    const run = await runTap(process.execPath, [host, ...command], {
      cwd: root,
      timeout: LIMIT_MS,
      env: { ...process.env, LOCKSTEP_EMULATED: '1' },
    });
    const seconds = Math.round((Date.now() - started) / 1000);
    console.log(`# ${command.at(-1)}: ${run.passed} passed, ${run.failed} failed, ${seconds} s`);
    runs.push(run);
  }
};
await Promise.all(Array.from({ length: availableParallelism() }, worker));
process.exit(total(runs));
