import { Writable } from 'node:stream';
import { LockstepError } from '../errors.js';
import { CHUNK_MAX, type ClientMessage } from './console-message.js';

/**
 * Input on its way to a pair. Bytes stay here until they are acknowledged (logged, and safe on the other side
 * too); after a takeover the rest is sent again. Writers wait while a window's worth is on its way.
 */
export class InputQueue extends Writable {
  readonly #send: (message: ClientMessage) => void;
  /** Bytes from `#acknowledged` on. */
  #pending: Buffer[] = [];
  #pendingBytes = 0;
  #acknowledged = 0;
  #sent = 0;
  #window = 0;
  #started = false;
  #live = false;
  #ended = false;
  #endSent = false;
  #waiting: (() => void) | undefined;
  #finished: (() => void) | undefined;

  constructor(send: (message: ClientMessage) => void) {
    super({ highWaterMark: 16 * 1024 });
    this.#send = send;
  }

  /** A side went live. It has input up to `offset`. */
  start(offset: number, ended: boolean, window: number): void {
    if (!this.#started) {
      this.#started = true;
      this.#acknowledged = offset;
    }
    const end = this.#acknowledged + this.#pendingBytes;
    if (offset < this.#acknowledged || offset > end) {
      throw new LockstepError(
        'ERR_LOCKSTEP_CONSOLE_MISMATCH',
        `the side that went live has input up to byte ${offset}; between ${this.#acknowledged} and ${end} was due`,
      );
    }
    this.#live = true;
    this.#sent = offset;
    this.#endSent = ended;
    this.#window = window;
    this.#pump();
  }

  /** The live side is gone; nothing is sent until the next {@link start}. */
  stop(): void {
    this.#live = false;
  }

  acknowledge(offset: number, eof: boolean): void {
    let surplus = offset - this.#acknowledged;
    if (surplus > this.#pendingBytes) {
      throw new LockstepError('ERR_LOCKSTEP_CONSOLE_PROTOCOL', 'input was acknowledged that was never sent');
    }
    if (surplus > 0) {
      this.#acknowledged = offset;
      this.#pendingBytes -= surplus;
    }
    while (surplus > 0) {
      const first = this.#pending[0] as Buffer;
      if (first.length > surplus) this.#pending[0] = first.subarray(surplus);
      else this.#pending.shift();
      surplus -= Math.min(first.length, surplus);
    }
    if (eof) {
      this.#finished?.();
      this.#finished = undefined;
    }
    this.#pump();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#pending.push(Buffer.from(chunk));
    this.#pendingBytes += chunk.length;
    this.#waiting = done;
    this.#pump();
  }

  override _final(done: () => void): void {
    this.#ended = true;
    this.#finished = done;
    this.#pump();
  }

  /** The machine ended: whatever is still here, nobody will read. */
  abandon(): void {
    this.#live = false;
    this.destroy();
  }

  #pump(): void {
    if (!this.#live) return;
    const end = this.#acknowledged + this.#pendingBytes;
    const limit = Math.min(end, this.#acknowledged + this.#window);
    if (this.#sent < limit) {
      const all = Buffer.concat(this.#pending);
      while (this.#sent < limit) {
        const to = Math.min(limit, this.#sent + CHUNK_MAX);
        const bytes = all.subarray(this.#sent - this.#acknowledged, to - this.#acknowledged);
        this.#send({ type: 'input', offset: this.#sent, bytes });
        this.#sent = to;
      }
    }
    if (this.#ended && !this.#endSent && this.#sent === end) {
      this.#endSent = true;
      this.#send({ type: 'input-eof', offset: end });
    }
    if (this.#waiting && this.#pendingBytes < this.#window) {
      const waiting = this.#waiting;
      this.#waiting = undefined;
      waiting();
    }
  }
}
