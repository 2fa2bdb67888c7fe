import { type ChildProcess, spawn } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { LockstepError } from '../../errors.js';
import { monotonicUs } from '../../events.js';
import { packageRoot } from '../../package-root.js';

const lockstep = fileURLToPath(new URL('bin/lockstep.js', packageRoot));

/** One line that `lockstep primary --json` or `shadow --json` printed. */
export interface SideLine {
  event: string;
  timeUs?: number;
  lsn?: number;
  detail?: string;
  [field: string]: unknown;
}

/** A side of the pair in a process of its own. */
export class SideProcess extends EventEmitter<{ line: [SideLine]; exit: [string] }> {
  readonly name: string;
  readonly #child: ChildProcess;
  /** What it last said of itself. */
  status: SideLine = { event: 'status' };
  /** The first notice of each name. */
  readonly first = new Map<string, SideLine>();
  #noise: string[] = [];
  #exited: string | undefined;

  /** `prefix`: what its command line begins with, to run somewhere else. */
  constructor(name: string, args: string[], prefix: string[] = []) {
    super();
    this.name = name;
    const [command, ...rest] = [...prefix, process.execPath, lockstep, name, '--json', ...args] as [
      string,
      ...string[],
    ];
    // Where it runs elsewhere, a Ctrl-C at our terminal is not for it.
    const detached = prefix.length > 0;
    this.#child = spawn(command, rest, { stdio: ['ignore', 'ignore', 'pipe'], detached });
    createInterface({ input: this.#child.stderr as NodeJS.ReadableStream }).on('line', (line) =>
      this.#take(line),
    );
    this.#child.once('close', (status, signal) => {
      this.#exited = signal ?? `status ${status}`;
      this.emit('exit', this.#exited);
    });
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  /** How it ended, or undefined. */
  get exited(): string | undefined {
    return this.#exited;
  }

  /** Resolves with the first notice of this name; rejects when the process ends before. */
  async notice(name: string): Promise<SideLine> {
    for (;;) {
      const found = this.first.get(name);
      if (found) return found;
      if (this.#exited !== undefined) throw this.#failure(`before it was '${name}'`);
      const done = new AbortController();
      const { signal } = done;
      await Promise.race([once(this, 'line', { signal }), once(this, 'exit', { signal })]);
      done.abort();
    }
  }

  /** kill -9. Returns the moment by CLOCK_MONOTONIC, in microseconds. */
  kill(): number {
    const now = monotonicUs();
    this.#child.kill('SIGKILL');
    return now;
  }

  /** Asks it to end its log and itself. */
  stop(): void {
    this.#child.kill('SIGTERM');
  }

  /** Resolves with how it ended. */
  async end(): Promise<string> {
    if (this.#exited === undefined) await once(this, 'exit');
    return this.#exited as string;
  }

  #take(text: string): void {
    let line: SideLine;
    try {
      line = JSON.parse(text) as SideLine;
    } catch {
      this.#noise.push(text);
      return;
    }
    if (line.event === 'status') this.status = line;
    else if (!this.first.has(line.event)) this.first.set(line.event, line);
    this.emit('line', line);
  }

  #failure(when: string): LockstepError {
    const said = this.#noise.join('\n');
    return new LockstepError(
      'ERR_LOCKSTEP_STATE',
      `the ${this.name} ended (${this.#exited}) ${when}${said ? `:\n${said}` : ''}`,
    );
  }
}

/** Runs a program and collects its output; `input` is all it reads. Aborted, it is ended. */
export async function collect(
  command: string,
  args: string[],
  input: string,
  signal?: AbortSignal,
): Promise<{ status: number; stdout: string; stderr: string }> {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'], signal });
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  const gather = async (stream: NodeJS.ReadableStream) => {
    const chunks: Buffer[] = [];
    for await (const chunk of stream) chunks.push(Buffer.from(chunk));
    return Buffer.concat(chunks).toString();
  };
  const [stdout, stderr, [status]] = await Promise.all([
    gather(child.stdout),
    gather(child.stderr),
    once(child, 'close') as Promise<[number | null]>,
  ]);
  return { status: status ?? 1, stdout, stderr };
}

/** `lockstep ...`, in a process of its own. */
export function runLockstep(args: string[], signal?: AbortSignal): ReturnType<typeof collect> {
  return collect(process.execPath, [lockstep, ...args], '', signal);
}

/** What `lockstep replay --json` prints, from a process that took no part in the recording. */
export async function replayElsewhere(
  log: string,
  signal?: AbortSignal,
): Promise<{
  status: number;
  events: number;
  checked: number;
  wallMs: number;
  stderr: string;
}> {
  const { status, stdout, stderr } = await runLockstep(['replay', '--json', '--quiet', log], signal);
  if (!stdout) return { status, events: 0, checked: 0, wallMs: 0, stderr };
  const result = JSON.parse(stdout) as { events: number; digests: { checked: number }; wallMs: number };
  return { status, events: result.events, checked: result.digests.checked, wallMs: result.wallMs, stderr };
}
