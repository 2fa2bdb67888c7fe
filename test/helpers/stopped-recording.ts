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

export interface Stopped {
  stops: number;
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
    const feed = async () => {
      for (let line = 1; line < LINES && child.exitCode === null; line++) {
        child.stdin.write(`${line}\n`);
        await sleep(1);
      }
      child.stdin.end();
    };
    let stops = 0;
    const hammer = async () => {
      for (; child.exitCode === null && child.signalCode === null; stops++) {
        child.kill('SIGSTOP');
        const wake = performance.now() + random.next() / 2;
        while (performance.now() < wake);
        child.kill('SIGCONT');
        await sleep(random.between(0, 3));
      }
    };
    await Promise.all([feed(), hammer()]);
    const [status] = await over;
    const { status: replayed, stdout, stderr } = await run(['replay', log, '--json', '--quiet']);
    if (status !== 0 || replayed !== 0) {
      throw new Error(
        `seed ${random.seed}: recorder ${status} ${said}, replay ${replayed} ${stdout} ${stderr}`,
      );
    }
    const { events, digests } = JSON.parse(stdout) as { events: number; digests: { checked: number } };
    return { stops, events, digests: digests.checked };
  } finally {
    child.kill('SIGKILL');
    rmSync(directory, { recursive: true, force: true });
  }
}
