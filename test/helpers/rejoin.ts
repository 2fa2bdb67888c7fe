// A chain of sides in processes of their own: each new one joins the machine while it runs, and then the live one
// is killed.
import { join } from 'node:path';
import { SideProcess } from '../../lib/control/side-process.js';

export class Chain {
  readonly sides: SideProcess[] = [];
  readonly #directory: string;
  readonly #shared: string[];

  constructor(directory: string, shared: string[] = []) {
    this.#directory = directory;
    this.#shared = [
      '--link',
      `unix:${this.#at('link')}`,
      '--arbiter',
      `file:${this.#at('arbiter')}`,
      ...shared,
    ];
  }

  console(index: number): string {
    return `unix:${this.#at(`${index}.console`)}`;
  }
  log(index: number): string {
    return this.#at(`${index}.log`);
  }
  get live(): SideProcess {
    return this.sides.at(-1) as SideProcess;
  }

  /** A primary that waits for nobody. */
  async start(args: string[]): Promise<void> {
    this.#spawn('primary', ['--alone', ...args]);
    await this.live.notice('listening');
  }

  /** A new shadow, once it is armed, which it is the first time or never. */
  async join(args: string[] = []): Promise<SideProcess> {
    const shadow = this.#spawn('shadow', ['--once', ...args]);
    await shadow.notice('armed');
    return shadow;
  }

  /** Kills the side before the last, which then goes on. */
  async takeOver(): Promise<void> {
    (this.sides.at(-2) as SideProcess).kill();
    await this.live.notice('live');
  }

  kill(): void {
    for (const side of this.sides) if (side.exited === undefined) side.kill();
  }

  #at(name: string): string {
    return join(this.#directory, name);
  }
  #spawn(name: 'primary' | 'shadow', args: string[]): SideProcess {
    const index = this.sides.length;
    const own = ['--console', this.console(index), '--log', this.log(index)];
    const side = new SideProcess(name, [...this.#shared, ...own, ...args]);
    this.sides.push(side);
    return side;
  }
}
