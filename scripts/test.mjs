// `npm test`: set-up, the native tests, ava. The last line is exactly `N passed, N failed`.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { root, setUp } from './setup.mjs';
import { runTap } from './tap.mjs';

setUp({ groups: ['demo', 'test'], coreTests: true });

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

const passed = runs.reduce((sum, run) => sum + run.passed, 0);
let failed = runs.reduce((sum, run) => sum + run.failed, 0);
// A run that failed without a failed test (it crashed, or found no tests) is a failure all the same.
failed += runs.filter((run) => run.status !== 0 && run.failed === 0).length;
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
