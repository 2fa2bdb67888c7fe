// `npm run demo`: whatever is missing, then `lockstep demo`.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { root, setUp } from './setup.mjs';

setUp({ groups: ['demo'], wished: process.argv.includes('--console') ? [] : ['unplug'] });
const lockstep = join(root, 'bin/lockstep.js');
const demo = spawn(process.execPath, [lockstep, 'demo', ...process.argv.slice(2)], { stdio: 'inherit' });
// A Ctrl-C reaches both: the demo ends by it, and tells with what. What comes to us alone is passed on.
process.on('SIGINT', () => {});
process.on('SIGTERM', () => demo.kill('SIGTERM'));
demo.once('exit', (status) => process.exit(status ?? 1));
