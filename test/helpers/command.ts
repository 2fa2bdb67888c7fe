/** Runs the command line as a user would, and says how it went. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import { patience } from './pace.js';
import { Random, testSeed } from './random.js';

export const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
export const lockstep = join(root, 'bin/lockstep.js');

/** Nothing here takes as long; what does hangs, and is killed for it. */
const HUNG_MS = patience(240_000);

export interface Outcome {
  /** null when a signal ended it: then `signal` says which. */
  status: number | null;
  signal: NodeJS.Signals | null;
  stdout: Buffer;
  stderr: string;
}

export interface CommandOptions {
  input?: string | Uint8Array;
  cwd?: string;
  env?: Record<string, string>;
}

/** Everything a stream has to give. */
export async function drain(stream: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

export async function command(argv: string[], options: CommandOptions = {}): Promise<Outcome> {
  const [program, ...args] = argv as [string, ...string[]];
  const { input, cwd, env } = options;
  const child = spawn(program, args, {
    cwd,
    env: env && { ...process.env, ...env },
    timeout: HUNG_MS,
    killSignal: 'SIGKILL',
  });
  // Who does not read its input breaks the pipe; its exit status is what counts.
  child.stdin.on('error', () => {});
  child.stdin.end(input ?? '');
  const [stdout, stderr, [status, signal]] = await Promise.all([
    drain(child.stdout),
    drain(child.stderr),
    new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (code, name) => resolve([code, name]));
    }),
  ]);
  return { status, signal, stdout, stderr: stderr.toString() };
}

/** `lockstep ...` */
export function run(args: string[], options?: CommandOptions): Promise<Outcome> {
  return command([process.execPath, lockstep, ...args], options);
}

/** A directory that is gone after the test. */
export function scratch(t: ExecutionContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'lockstep-test-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** The processors this process may run on. */
export function processors(list: string): number[] {
  return list
    .trim()
    .split(',')
    .flatMap((range) => {
      const [first, last = first] = range.split('-').map(Number) as [number, number?];
      return Array.from({ length: (last as number) - first + 1 }, (_, index) => first + index);
    });
}

/** A generator whose seed is printed with the test. */
export function printedRandom(t: ExecutionContext): Random {
  const random = new Random(testSeed());
  t.log(`LOCKSTEP_TEST_SEED=${random.seed}`);
  return random;
}

/** A line of shell; "$0" "$1" in it is `lockstep`. */
export function shell(line: string, options?: CommandOptions): Promise<Outcome> {
  return command(['sh', '-c', line, process.execPath, lockstep], options);
}
