import { type ChildProcess, spawn } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { LockstepError } from '../errors.js';
import { monotonicUs } from '../events.js';
import { packageRoot } from '../package-root.js';

export const lockstep = fileURLToPath(new URL('bin/lockstep.js', packageRoot));

/** Of what it says to people. */
const NOISE_LINES = 50;

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
  constructor(name: string, args: string[], prefix: string[] = [], env: NodeJS.ProcessEnv = process.env) {
    super();
    this.name = name;
    const [command, ...rest] = [...prefix, process.execPath, lockstep, name, '--json', ...args] as [
      string,
      ...string[],
    ];
    // Where it runs elsewhere, a Ctrl-C at our terminal is not for it.
    const detached = prefix.length > 0;
    this.#child = spawn(command, rest, { stdio: ['ignore', 'ignore', 'pipe'], detached, env });
    createInterface({ input: this.#child.stderr as NodeJS.ReadableStream }).on('line', (line) =>
      this.#take(line),
    );
    // A prefix that is no program: then there is no 'close'.
    this.#child.once('error', (error) => this.#over(error.message));
    this.#child.once('close', (status, signal) => this.#over(signal ?? `status ${status}`));
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

  #over(how: string): void {
    if (this.#exited !== undefined) return;
    this.#exited = how;
    this.emit('exit', how);
  }

  #take(text: string): void {
    let line: SideLine;
    try {
      line = JSON.parse(text) as SideLine;
    } catch {
      this.#noise.push(text);
      if (this.#noise.length > NOISE_LINES) this.#noise.shift();
      return;
    }
    if (line.event === 'status') this.status = line;
    else if (!this.first.has(line.event)) this.first.set(line.event, line);
    this.emit('line', line);
  }

  /** What it said that is no JSON: why it failed, for one. */
  get said(): string {
    return this.#noise.join('\n');
  }

  #failure(when: string): LockstepError {
    const { said } = this;
    return new LockstepError(
      'ERR_LOCKSTEP_STATE',
      `the ${this.name} ended (${this.#exited}) ${when}${said ? `:\n${said}` : ''}`,
    );
  }
}
