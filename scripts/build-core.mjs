// The developers' build: cmake-js into build-core/. Words after `--` go to CMake as definitions, e.g.
//   npm run build:core -- --debug -- LOCKSTEP_SANITIZE=address,undefined
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

const own = process.argv.slice(2);
const split = own.indexOf('--');
const flags = split < 0 ? own : own.slice(0, split);
const definitions = split < 0 ? [] : own.slice(split + 1).map((word) => `--CD${word}`);

// cmake-js, like node-gyp, downloads headers unless it is told where they are.
const prefix = dirname(dirname(process.execPath));
const environment = { ...process.env };
if (existsSync(join(prefix, 'include/node/node_api.h'))) environment.npm_config_nodedir = prefix;

const { status } = spawnSync(
  process.execPath,
  [
    createRequire(import.meta.url).resolve('cmake-js/bin/cmake-js'),
    'compile',
    '--out',
    'build-core',
    ...flags,
    ...definitions,
  ],
  { stdio: 'inherit', env: environment },
);
process.exit(status ?? 1);
