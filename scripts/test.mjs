// `npm test`: set-up, the native tests, ava. The last line is exactly `N passed, N failed`.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { root, setUp } from './setup.mjs';
import { runTap, total } from './tap.mjs';

setUp({ groups: ['demo', 'unplug', 'test'], coreTests: true });
if (!existsSync('/dev/kvm'))
  console.error(
    'There is no /dev/kvm here, so most tests will fail. `npm run test:emulated` brings its own.',
  );

const runs = [];
const coreTest = join(root, 'build/Release/core_test');
if (existsSync(coreTest)) runs.push(await runTap(coreTest, [], { cwd: root, timeout: 5 * 60_000 }));
runs.push(
  await runTap(
    process.execPath,
    ['node_modules/ava/entrypoints/cli.mjs', '--tap', ...process.argv.slice(2)],
    {
      cwd: root,
    },
  ),
);

process.exit(total(runs));
