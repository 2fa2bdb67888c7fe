/** One line on a terminal that says what is being done; nothing elsewhere. */
export class Progress {
  readonly #out = process.stderr;

  say(text: string): void {
    if (!this.#out.isTTY) return;
    this.#out.write(`\r\x1b[K${text.slice(0, Math.max(20, (this.#out.columns || 80) - 1))}`);
  }

  clear(): void {
    if (this.#out.isTTY) this.#out.write('\r\x1b[K');
  }
}
