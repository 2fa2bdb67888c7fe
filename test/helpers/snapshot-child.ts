/** Takes a snapshot on a disk that is too small; exits with 0 when that was told well and the machine goes on. */
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Image, type LockstepError, Machine } from '../../lib/index.js';

const [directory = ''] = process.argv.slice(2);
const machine = await Machine.create(
  await Image.fromProgram({ argv: ['busybox', 'awk', '{ print NR, $0; fflush() }'] }),
);
await machine.start();
machine.stdin.write('a\n');
await once(machine.stdout, 'data');
const error = await machine.snapshot(join(directory, 'large')).then(
  () => undefined,
  (thrown: LockstepError) => thrown,
);
machine.stdin.write('b\n');
const [said] = await once(machine.stdout, 'data');
await machine.close();
const told = error?.code === 'ERR_LOCKSTEP_DISK_FULL' && /nothing of it was left/.test(error.message);
process.exit(told && readdirSync(directory).length === 0 && `${said}` === '2 b\n' ? 0 : 1);
