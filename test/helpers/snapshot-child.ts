/** Takes a snapshot that the limit for files' sizes does not let through; exits with 0 when that was told well. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Image, type LockstepError, Machine } from '../../lib/index.js';

process.on('SIGXFSZ', () => {});
const [directory = ''] = process.argv.slice(2);
const machine = await Machine.create(
  await Image.fromProgram({ argv: ['busybox', 'awk', '{ print NR, $0; fflush() }'] }),
);
await machine.start();
machine.stdin.write('a\n');
for await (const _ of machine.stdout) break;
const before = readdirSync(directory).length;
const error = await machine.snapshot(join(directory, 'large')).then(
  () => undefined,
  (thrown: LockstepError) => thrown,
);
await machine.close();
const told = error?.code === 'ERR_LOCKSTEP_SYSTEM' && /nothing of it was left/.test(error.message);
process.exit(told && readdirSync(directory).length === before ? 0 : 1);
