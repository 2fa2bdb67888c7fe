// What `npm run demo` and `npm test` do first, on a checkout that may be fresh: Debian packages, npm
// packages, the build; each only where it is missing. Plain Node: runs with no node_modules at all.
import { spawnSync } from 'node:child_process';
import { existsSync, statSync, utimesSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { aptLine, missingBuildPackages, missingDebianPackages, unpackedPackages } from './requirements.mjs';
import { unpackDebian } from './unpack-debian.mjs';

export const root = dirname(dirname(fileURLToPath(import.meta.url)));

function run(command, args, environment = {}) {
  const result = spawnSync(command, args, {
    cwd: root,
    // Set-up talks on stderr: stdout belongs to what runs after it.
    stdio: ['ignore', 2, 2],
    env: { ...process.env, ...environment },
  });
  if (result.error) throw result.error;
  if (result.status !== 0) {
    console.error(`Set-up stopped: \`${command} ${args.join(' ')}\` failed; its messages are above.`);
    process.exit(1);
  }
}

/** Those of the groups that are missing, with what the build needs. */
export function installDebianPackages(groups) {
  const missing = [...new Set([...missingBuildPackages(), ...missingDebianPackages(groups)])];
  if (missing.length === 0) return;
  if (process.getuid() !== 0) {
    console.error(`Set-up needs ${missing.join(', ')}. Run this once, then try again:`);
    console.error(`  sudo ${aptLine(missing)}`);
    process.exit(1);
  }
  console.error(`Installing ${missing.join(', ')} ...`);
  const quiet = { DEBIAN_FRONTEND: 'noninteractive' };
  run('apt-get', ['update', '-qq'], quiet);
  run('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...missing], quiet);
}

function installNpmPackages() {
  const lock = join(root, 'package-lock.json');
  const installed = join(root, 'node_modules/.package-lock.json');
  if (existsSync(installed) && statSync(installed).mtimeMs >= statSync(lock).mtimeMs) return;
  console.error('Installing npm packages ...');
  // The addon is built below, with its tests: not twice.
  run('npm', ['ci', '--include=dev', '--ignore-scripts', '--no-audit', '--no-fund']);
  utimesSync(installed, new Date(), new Date());
}

/** Builds what is out of date: addon, guest kernel, native tests where asked for, dist/. */
function build({ coreTests }) {
  run(process.execPath, ['scripts/build-addon.mjs', ...(coreTests ? ['--core-tests'] : [])]);
  run(process.execPath, ['node_modules/typescript/bin/tsc', '--project', 'tsconfig.build.json']);
  run(process.execPath, ['scripts/bundle-cli.mjs']);
}

export function setUp({ groups, coreTests = false }) {
  installDebianPackages(groups);
  if (groups.includes('test')) {
    try {
      for (const name of unpackedPackages) unpackDebian(name);
    } catch (error) {
      console.error(`Set-up stopped: ${error.message}\nRun \`apt-get update\` once, then try again.`);
      process.exit(1);
    }
  }
  installNpmPackages();
  build({ coreTests });
}
