/** What a program prints, in a file that is made when there is something, and never larger than a bound. */
import { closeSync, openSync, renameSync, writeSync } from 'node:fs';
import { Writable } from 'node:stream';

const BYTES_MAX = 16 << 20;

/** When it is full it becomes PATH.1, in place of the one before, and a new one begins. */
export class OutputFile extends Writable {
  readonly #path: string;
  readonly #bytesMax: number;
  #fd: number | undefined;
  #bytes = 0;

  constructor(path: string, bytesMax = BYTES_MAX) {
    super({ decodeStrings: true });
    this.#path = path;
    this.#bytesMax = bytesMax;
  }

  /** A full disk must not stop the machine: what it prints is lost then. */
  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    try {
      if (this.#bytes >= this.#bytesMax) {
        this.#close();
        renameSync(this.#path, `${this.#path}.1`);
        this.#bytes = 0;
      }
      this.#fd ??= openSync(this.#path, 'a', 0o600);
      this.#bytes += writeSync(this.#fd, chunk);
    } catch {
      this.#close();
    }
    done();
  }

  override _final(done: () => void): void {
    this.#close();
    done();
  }

  #close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }
}
