// Builds the addon and the guest kernel into build/Release. npm runs this on install; make skips what is
// up to date. With --core-tests it also builds the native tests.
import { spawnSync } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { aptLine, missingBuildPackages } from './requirements.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

const missing = missingBuildPackages();
if (missing.length > 0) {
  console.error(`lockstep cannot be built: ${missing.join(', ')} missing on this machine. Install with:`);
  console.error(`  sudo ${aptLine(missing)}`);
  process.exit(1);
}

// Node's own headers where they stand beside the running binary; else node-gyp fetches them.
const prefix = dirname(dirname(process.execPath));
const environment = { ...process.env };
if (existsSync(join(prefix, 'include/node/node_api.h'))) environment.npm_config_nodedir = prefix;

const nodeGyp = createRequire(import.meta.url).resolve('node-gyp/bin/node-gyp.js');

function run(...args) {
  const { status, signal } = spawnSync(process.execPath, [nodeGyp, ...args], {
    cwd: root,
    env: environment,
    stdio: 'inherit',
  });
  if (status !== 0) {
    console.error(
      `lockstep: node-gyp ${args[0]} failed${signal ? ` (${signal})` : ''}; its messages are above.`,
    );
    process.exit(status ?? 1);
  }
}

const tests = process.argv.includes('--core-tests') ? 1 : 0;
run('configure', '--loglevel=warn', '--', `-Dcore_tests=${tests}`);
run('build', '--loglevel=warn', '--jobs', String(availableParallelism()));

// An installed package (it has no lib/) is built once: what only make needs would stay behind as 100 MB.
if (!existsSync(join(root, 'lib'))) {
  for (const left of ['obj.target', '.deps', 'lockstep_core.a']) {
    rmSync(join(root, 'build/Release', left), { recursive: true, force: true });
  }
}
