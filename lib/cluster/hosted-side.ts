/** One side that a host runs: `lockstep primary` or `lockstep shadow` in a process of its own, and what it says. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ConsoleClient } from '../console-client.js';
import { type SideLine, SideProcess } from '../control/side-process.js';
import { isOverForAll } from '../end-marks.js';
import type { Ended } from '../events.js';
import { OutputFile } from './output-file.js';
import type { SideStatus } from './records.js';

/** Ends with the host that started it: a side that nobody looks after is worse than a lost one. */
const WITH_US = ['setpriv', '--pdeathsig', 'KILL'];
const STOP_MS = 5000;
const CONSOLE_AGAIN_MS = 1000;
const CONSOLE_MS = 5000;

export interface HostedSideOptions {
  role: 'primary' | 'shadow';
  /** For the command line, except what is named here. */
  args: string[];
  env: NodeJS.ProcessEnv;
  /** Where its sockets, and what its program prints, go; `MACHINE.ID` there. */
  directory: string;
  name: string;
  host: string;
  incarnation: string;
  /** Where a shadow can join it once it is live. */
  listensAt: string;
  memoryMiB: number;
  /** Called when its status is another. */
  changed: () => void;
}

export class HostedSide {
  readonly options: HostedSideOptions;
  readonly #process: SideProcess;
  readonly #files: string[];
  readonly #output: OutputFile;
  #drain: Promise<void> | undefined;
  #client: ConsoleClient | undefined;
  readonly #ending = new AbortController();
  #consoleTaken = false;
  #told = '';
  #listens = false;
  #armed = false;
  #killer: NodeJS.Timeout | undefined;
  /** Set when the machine itself is over. */
  ended: Ended | undefined;

  constructor(options: HostedSideOptions) {
    this.options = options;
    const { role, args, env, directory, name } = options;
    const at = (kind: string) => join(directory, `${name}.${kind}`);
    this.#files = [at('console'), at('control')];
    const own = ['--console', `unix:${at('console')}`, '--control', at('control')];
    this.#output = new OutputFile(at('out'));
    this.#process = new SideProcess(role, [...own, ...args], WITH_US, env);
    this.#process.on('line', (line) => this.#take(line));
    this.#process.on('exit', () => this.#over());
  }

  get over(): boolean {
    return this.#process.exited !== undefined;
  }
  get live(): boolean {
    const { live, fenced } = this.#process.status;
    return !this.over && live === true && fenced !== true;
  }
  get protected(): boolean {
    return this.live && this.#process.status.protected === true;
  }
  get control(): string {
    return this.#files[1] as string;
  }

  status(): SideStatus {
    const { host, incarnation, listensAt } = this.options;
    const { status, exited, said } = this.#process;
    return {
      host,
      incarnation,
      state: exited !== undefined ? 'over' : status.generation === undefined ? 'starting' : 'running',
      link: this.#listens && !this.over ? listensAt : undefined,
      pair: status.pairId as string | undefined,
      live: this.live,
      protected: this.protected,
      armed: this.#armed,
      generation: Number(status.generation ?? 0),
      control: this.control,
      why: exited === undefined ? undefined : said ? `${exited}: ${said.slice(-500)}` : exited,
    };
  }

  /** Asks it to end, and sees to it. */
  stop(): void {
    if (this.over || this.#killer) return;
    this.#process.stop();
    this.#killer = setTimeout(() => this.#process.kill(), STOP_MS);
    this.#killer.unref();
  }

  async end(): Promise<void> {
    await this.#process.end();
    await this.#drain;
  }

  #take(line: SideLine): void {
    if (line.event === 'armed') this.#armed = true;
    if (line.event === 'listening' && /^The link /.test(line.detail ?? '')) this.#listens = true;
    if (line.event === 'live') this.#listens = true;
    if (line.event === 'console-connected') this.#consoleTaken = true;
    if (line.event === 'console-lost' && !/replaced/.test(line.detail ?? '')) this.#consoleTaken = false;
    if (line.event === 'ended') {
      const { reason, status, detail } = line as unknown as Ended;
      if (isOverForAll({ reason })) this.ended = { reason, status, detail };
    }
    // Whose program's output nobody reads stands still in the end.
    if (this.live) this.#drain ??= this.#readConsole();
    this.#tell();
  }

  #tell(): void {
    const now = JSON.stringify(this.status());
    if (now === this.#told) return;
    this.#told = now;
    this.options.changed();
  }

  #over(): void {
    clearTimeout(this.#killer);
    this.#ending.abort();
    void this.#client?.close();
    for (const file of this.#files) rmSync(file, { force: true });
    this.#tell();
  }

  /** Into a file, while no person is at the console: whose client takes the place of ours, and gives it back. */
  async #readConsole(): Promise<void> {
    const { signal } = this.#ending;
    const options = { addresses: [`unix:${this.#files[0]}`], unreachableMs: CONSOLE_MS, signal };
    for (let ended = false; !this.over && !ended; ) {
      const client = await ConsoleClient.connect(options).catch(() => undefined);
      this.#client = client;
      for (const stream of client ? [client.stdout, client.stderr, client.serial] : [])
        stream.pipe(this.#output, { end: false });
      ended = (await client?.ended.catch(() => undefined)) !== undefined;
      do {
        if (!ended) await sleep(CONSOLE_AGAIN_MS, undefined, { signal }).catch(() => {});
      } while (this.#consoleTaken && !this.over && !ended);
    }
    this.#output.end();
  }
}
