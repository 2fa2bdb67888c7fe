// Runs one TypeScript program of this checkout (bench, soak) after the set-up,
// the native tests' programs included: the benches use the relay.
import { spawnSync } from 'node:child_process';
import { root, setUp } from './setup.mjs';

setUp({ groups: ['demo', 'unplug', 'test'], coreTests: true });
const { status } = spawnSync(process.execPath, ['--import=tsx', ...process.argv.slice(2)], {
  cwd: root,
  stdio: 'inherit',
});
process.exit(status ?? 1);
