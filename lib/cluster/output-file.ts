/** What a program prints, in a file that is made when there is something, and never larger than a bound. */
import { closeSync, openSync, readdirSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { Writable } from 'node:stream';

const BYTES_MAX = 16 << 20;
/** Of each machine so many sides' output is kept when they are over, for so long after the last of it. */
const SIDES_KEPT = 4;
const KEPT_MS = 7 * 86_400_000;

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

/** What a side leaves in its host's directory: `MACHINE.ID` and what it is. */
const LEFT = /^(?<side>(?<machine>.+)\.[0-9a-f]+)\.(?<kind>out|out\.1|console|control)$/;

/** Removes what is left of sides that are over: sockets at once, output when it is old, or of many. */
export function tidy(directory: string, running: ReadonlySet<string>): void {
  const outputs = new Map<string, Map<string, { paths: string[]; at: number }>>();
  for (const name of readdirSync(directory)) {
    const { side, machine, kind } = LEFT.exec(name)?.groups ?? {};
    if (side === undefined || machine === undefined || running.has(side)) continue;
    const path = join(directory, name);
    if (kind === 'console' || kind === 'control') {
      rmSync(path, { force: true });
      continue;
    }
    const sides = outputs.get(machine) ?? new Map();
    outputs.set(machine, sides);
    const { paths = [], at = 0 } = sides.get(side) ?? {};
    const written = statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
    sides.set(side, { paths: [...paths, path], at: Math.max(at, written) });
  }
  for (const sides of outputs.values()) {
    const newest = [...sides.values()].sort((a, b) => b.at - a.at);
    const old = newest.filter(({ at }, index) => index >= SIDES_KEPT || Date.now() - at > KEPT_MS);
    for (const { paths } of old) for (const path of paths) rmSync(path, { force: true });
  }
}
