/** The programs that are measured: all Debian's busybox. Each takes an amount of work. */
import { randomFillSync } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Workload } from './workload.js';

export const BUSYBOX = '/bin/busybox';

export const SHA256_BYTES = 16 << 20;

/** Reads and hashes the same 16 MiB so many times. */
export function sha256sum(directory: string, passes: number): Workload {
  const host = join(directory, 'sha256.in');
  writeFileSync(host, randomFillSync(Buffer.alloc(SHA256_BYTES)));
  const argv = [BUSYBOX, 'sha256sum', ...Array<string>(passes).fill(host)];
  return { name: 'sha256sum', argv, files: [{ host, guest: host }], streams: { kind: 'null' } };
}

/** Arithmetic, and no system calls at all. */
export function awkLoop(turns: number): Workload {
  const program = `BEGIN { x = 1; for (i = 0; i < ${turns}; i++) x = (x * 16807) % 2147483647; print x }`;
  return { name: 'awk-loop', argv: [BUSYBOX, 'awk', program], streams: { kind: 'null' } };
}

/** Writes so many lines of 16 bytes to /dev/null, each by a write() of its own. */
export function writeLines(lines: number): Workload {
  const argv = [BUSYBOX, 'dd', 'if=/dev/zero', 'bs=16', `count=${lines}`, 'status=none'];
  return { name: 'write-lines', argv, streams: { kind: 'null' } };
}

/** Asks for the time so often: one exit, and one event, for every 64 readings. */
export function readClock(readings: number): Workload {
  const program = `BEGIN { for (i = 0; i < ${readings}; i++) x = systime() }`;
  return { name: 'read-clock', argv: [BUSYBOX, 'awk', program], streams: { kind: 'null' } };
}

/** Is sent a line, answers it, is sent the next. */
export function answerLines(lines: number): Workload {
  const line = 'anna 0123456789 boris\n';
  const talk = (stdin: NodeJS.WritableStream, stdout: NodeJS.ReadableStream) =>
    new Promise<void>((done) => {
      let left = lines;
      stdout.on('data', () => (--left > 0 ? stdin.write(line) : done()));
      stdin.write(line);
    });
  return { name: 'answer-lines', argv: [BUSYBOX, 'cat'], streams: { kind: 'talk', talk } };
}

/** Reads a file of lines that no compressor makes smaller by much, and answers each by a write() of its own. */
export function sumLines(directory: string, lines: number): Workload {
  const path = join(directory, 'lines.in');
  const noise = randomFillSync(Buffer.alloc(lines * 15)).toString('base64');
  writeFileSync(
    path,
    Array.from({ length: lines }, (_, i) => `${noise.slice(i * 20, i * 20 + 20)}\n`).join(''),
  );
  const program = '{ sum += length($0); print sum; fflush() }';
  return { name: 'sum-lines', argv: [BUSYBOX, 'awk', program], streams: { kind: 'file', path } };
}
