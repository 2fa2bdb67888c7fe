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
  if (result.status !== 0)
    throw new Error(`\`${command} ${args.join(' ')}\` failed; its messages are above.`);
}

/** Those of the groups that are missing, with what the build needs. */
export function installDebianPackages(groups) {
  const missing = [...new Set([...missingBuildPackages(), ...missingDebianPackages(groups)])];
  if (missing.length === 0) return;
  if (process.getuid() !== 0) {
    throw new Error(
      `it needs ${missing.join(', ')}. Run this once, then try again:\n  sudo ${aptLine(missing)}`,
    );
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

function unpackDebianPackages(groups) {
  try {
    for (const name of unpackedPackages(groups)) unpackDebian(name);
  } catch (error) {
    throw new Error(`${error.message}\nRun \`apt-get update\` once, then try again.`);
  }
}

/** What some do without: root has it installed, and nobody is stopped by what is missing. */
function wishFor(groups) {
  if (process.getuid() !== 0 || groups.length === 0) return;
  try {
    installDebianPackages(groups);
    unpackDebianPackages(groups);
  } catch (error) {
    console.error(`Going on without some of it: ${error.message}`);
  }
}

/** Stops the process where one of the groups cannot be had; those in `wished` may be missing. */
export function setUp({ groups, wished = [], coreTests = false }) {
  try {
    installDebianPackages(groups);
    unpackDebianPackages(groups);
    wishFor(wished);
    installNpmPackages();
    build({ coreTests });
  } catch (error) {
    console.error(`Set-up stopped: ${error.message}`);
    process.exit(1);
  }
}
