/** Lines that scroll, and below them some that are rewritten in place; without a terminal, plain lines. */
export class Screen {
  readonly #out: NodeJS.WriteStream;
  #status: string[] = [];
  /** How many of those are on the screen now. */
  #shown = 0;

  constructor(out: NodeJS.WriteStream) {
    this.#out = out;
  }

  get isTerminal(): boolean {
    return this.#out.isTTY;
  }

  /** A line that stays. */
  line(text = ''): void {
    this.#write(`${text}\n`);
  }

  /** A step of the story. */
  step(text: string): void {
    this.line(this.#out.isTTY ? `\x1b[1m${text}\x1b[0m` : text);
  }

  /** The live lines; only on a terminal. */
  status(...lines: string[]): void {
    if (!this.#out.isTTY) return;
    const width = Math.max(0, (this.#out.columns || 80) - 1);
    this.#status = lines.map((text) => text.slice(0, width));
    this.#write('');
  }

  /** Takes the live lines away. */
  clear(): void {
    this.#status = [];
    this.#write('');
  }

  #write(lines: string): void {
    if (!this.#out.isTTY) {
      if (lines) this.#out.write(lines);
      return;
    }
    const back = this.#shown > 1 ? `\x1b[${this.#shown - 1}A` : '';
    const status = this.#status.map((text) => `\x1b[7m${text}\x1b[0m`).join('\n');
    this.#out.write(`${back}\r\x1b[J${lines}${status}`);
    this.#shown = this.#status.length;
  }
}
