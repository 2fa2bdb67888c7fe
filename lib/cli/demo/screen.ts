/** Lines that scroll, and below them one that is rewritten in place; without a terminal, plain lines. */
export class Screen {
  readonly #out: NodeJS.WriteStream;
  #status = '';

  constructor(out: NodeJS.WriteStream) {
    this.#out = out;
  }

  /** A line that stays. */
  line(text = ''): void {
    this.#write(`${text}\n`);
  }

  /** A step of the story. */
  step(text: string): void {
    this.line(this.#out.isTTY ? `\x1b[1m${text}\x1b[0m` : text);
  }

  /** The live line; only on a terminal. */
  status(text: string): void {
    if (!this.#out.isTTY) return;
    this.#status = text.slice(0, Math.max(0, (this.#out.columns || 80) - 1));
    this.#write('');
  }

  /** Takes the live line away. */
  clear(): void {
    this.#status = '';
    this.#write('');
  }

  #write(lines: string): void {
    if (this.#out.isTTY) this.#out.write(`\r\x1b[K${lines}\x1b[7m${this.#status}\x1b[0m`);
    else if (lines) this.#out.write(lines);
  }
}
