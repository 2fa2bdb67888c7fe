// A recorder that is stopped and continued all the time (a debugger, a freezer, job control do that): nothing
// that the guest wrote may be missed by the digests.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { lockstep, run } from './pair.js';
import type { Random } from './random.js';

const PROGRAM = '{ for (i = 0; i < 400; i++) a[i + NR * 3] = a[i] + $1 * i; print NR, a[NR]; fflush() }';
const LINES = 400;
const HAMMER = 'while kill -STOP $1; do usleep 200; kill -CONT $1; usleep 1300; done 2>/dev/null';

export interface Stopped {
  events: number;
  digests: number;
}

/** Records a program with a digest at every event under SIGSTOP and SIGCONT; throws unless it replays. */
export async function recordStopped(random: Random): Promise<Stopped> {
  const directory = mkdtempSync(join(tmpdir(), 'lockstep-stopped-'));
  const log = join(directory, 'x.log');
  const options = ['--digest-every', '1', '--quiet', '--log', log];
  const child = spawn(
    process.execPath,
    [lockstep, 'record', ...options, '--', '/bin/busybox', 'awk', PROGRAM],
    {
      stdio: ['pipe', 'pipe', 'pipe'],
    },
  );
  try {
    let said = '';
    child.stderr.on('data', (bytes: Buffer) => {
      said += bytes;
    });
    child.stdin.on('error', () => {});
    const over = once(child, 'close') as Promise<[number | null]>;
    // The machine answers: from now on it runs.
    child.stdin.write('0\n');
    await once(child.stdout, 'data');
    child.stdout.resume();
    // In a process of its own: its moments must have nothing to do with those at which we write.
    const hammer = spawn('/bin/busybox', ['sh', '-c', HAMMER, 'sh', String(child.pid)]);
    for (let line = 1; line < LINES && child.exitCode === null; line++) {
      child.stdin.write(`${line}\n`);
      await sleep(random.between(1, 2));
    }
    child.stdin.end();
    const [status] = await over;
    hammer.kill('SIGKILL');
    const { status: replayed, stdout, stderr } = await run(['replay', log, '--json', '--quiet']);
    if (status !== 0 || replayed !== 0) {
      throw new Error(
        `seed ${random.seed}: recorder ${status} ${said}, replay ${replayed} ${stdout} ${stderr}`,
      );
    }
    const { events, digests } = JSON.parse(stdout) as { events: number; digests: { checked: number } };
    return { events, digests: digests.checked };
  } finally {
    child.kill('SIGKILL');
    rmSync(directory, { recursive: true, force: true });
  }
}
