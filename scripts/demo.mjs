// `npm run demo`: whatever is missing, then `lockstep demo`.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { root, setUp } from './setup.mjs';

setUp({ groups: ['demo'] });
const lockstep = join(root, 'bin/lockstep.js');
const { status } = spawnSync(process.execPath, [lockstep, 'demo', ...process.argv.slice(2)], {
  stdio: 'inherit',
});
process.exit(status ?? 1);
