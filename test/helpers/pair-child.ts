// One side of a pair in a process of its own, and what it said.
import { type ChildProcess, spawn } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

export interface SideNotice {
  event: string;
  lsn?: number;
  generation?: number;
  detail?: string;
  [field: string]: unknown;
}

/** One side, in a process of its own. */
export class SideChild extends EventEmitter<{ notice: [SideNotice]; exit: [] }> {
  readonly name: 'primary' | 'shadow';
  readonly child: ChildProcess;
  readonly notices: SideNotice[] = [];
  readonly noise: string[] = [];
  status: SideNotice = { event: 'status' };
  /** 'status N' or the signal's name. */
  exited: string | undefined;

  /** @param inside puts a command line where the side is to run; it must end in the same process. */
  constructor(
    name: 'primary' | 'shadow',
    command: string[],
    environment: Record<string, string>,
    inside: (argv: string[]) => string[] = (argv) => argv,
  ) {
    super();
    this.setMaxListeners(0);
    this.name = name;
    const [program, ...rest] = inside([process.execPath, ...command]) as [string, ...string[]];
    this.child = spawn(program, rest, {
      stdio: ['pipe', 'ignore', 'pipe'],
      env: { ...process.env, ...environment },
    });
    this.child.stdin?.on('error', () => {});
    createInterface({ input: this.child.stderr as NodeJS.ReadableStream }).on('line', (line) => {
      try {
        this.#take(JSON.parse(line) as SideNotice);
      } catch {
        this.noise.push(line);
      }
    });
    this.child.once('close', (status, signal) => {
      this.exited = signal ?? `status ${status}`;
      this.emit('exit');
    });
  }

  #take(notice: SideNotice): void {
    if (notice.event === 'status') this.status = notice;
    else this.notices.push(notice);
    this.emit('notice', notice);
  }

  get pid(): number {
    return this.child.pid as number;
  }

  has(event: string): boolean {
    return this.notices.some((notice) => notice.event === event);
  }

  /** The n-th notice of this name, from 1 on. */
  nth(event: string, n: number): SideNotice | undefined {
    return this.notices.filter((notice) => notice.event === event)[n - 1];
  }

  count(event: string): number {
    return this.notices.filter((notice) => notice.event === event).length;
  }

  /** Resolves with the n-th notice of this name; rejects when the process ends without it. */
  async until(event: string, n = 1): Promise<SideNotice> {
    for (;;) {
      const found = this.nth(event, n);
      if (found) return found;
      if (this.exited !== undefined) {
        throw new Error(`the ${this.name} ended (${this.exited}) before '${event}'\n${this.story()}`);
      }
      const done = new AbortController();
      const { signal } = done;
      await Promise.race([once(this, 'notice', { signal }), once(this, 'exit', { signal })]);
      done.abort();
    }
  }

  async end(): Promise<string> {
    if (this.exited === undefined) await once(this, 'exit');
    return this.exited as string;
  }

  signal(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  /** /proc's word for what the process does: 'T' when it is stopped. */
  state(): string {
    return statusField(this.pid, 'State');
  }

  async untilStopped(): Promise<void> {
    while (this.exited === undefined && this.state() !== 'T') await sleep(2);
  }

  story(): string {
    const said = this.notices.map(
      ({ event, timeUs, lsn, generation, detail }) =>
        `  ${(Number(timeUs ?? 0) / 1000).toFixed(1)} ${event} lsn ${lsn} g${generation} ${detail ?? ''}`,
    );
    return [`${this.name} ${this.pid}: ${this.exited ?? 'running'}`, ...said, ...this.noise].join('\n');
  }
}

function statusField(pid: number, name: string): string {
  try {
    const text = readFileSync(`/proc/${pid}/status`, 'utf8');
    return new RegExp(`^${name}:\\s*(\\S)`, 'm').exec(text)?.[1] ?? '';
  } catch {
    return '';
  }
}
