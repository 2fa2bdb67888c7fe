import { Readable } from 'node:stream';
import { LockstepError } from '../errors.js';

/** At least as much as a pair ever keeps unacknowledged, so every repeat can be compared. */
const HISTORY_BYTES = 4 << 20;

/**
 * One output channel of a pair, joined from whichever side is live. Repeats after a takeover are compared
 * with what came before and dropped; what nobody reads is not acknowledged, which stops the guest.
 */
export class OutputChannel extends Readable {
  readonly channel: number;
  readonly #acknowledge: (channel: number, offset: number) => void;
  /** Bytes from `received - history` up to `received`. */
  #history: Buffer[] = [];
  #historyBytes = 0;
  #received = 0;
  #acknowledged = 0;
  #started = false;
  /** Bytes that came twice and were equal. */
  repeatedBytes = 0;

  constructor(channel: number, acknowledge: (channel: number, offset: number) => void) {
    super({ highWaterMark: 64 * 1024 });
    this.channel = channel;
    this.#acknowledge = acknowledge;
  }

  /** Bytes received since the machine's boot. */
  get received(): number {
    return this.#received;
  }

  /**
   * A side is live and will send from `offset` on. The first one says where this client begins. Returns how many
   * bytes are gone: another client had them, or there was none for too long.
   */
  start(offset: number): number {
    const gone = this.#started ? Math.max(0, offset - this.#received) : 0;
    if (!this.#started || gone > 0) {
      this.#started = true;
      this.#received = offset;
      this.#history = [];
      this.#historyBytes = 0;
    }
    this.#acknowledged = Math.min(this.#acknowledged, offset);
    if (this.#historyBytes === 0 || this.readableLength < this.readableHighWaterMark) this.#settle();
    return gone;
  }

  /** Takes bytes that stand at `offset`; throws ERR_LOCKSTEP_CONSOLE_MISMATCH. True when some were new. */
  receive(offset: number, bytes: Buffer): boolean {
    this.#started = true;
    if (offset > this.#received) {
      throw new LockstepError(
        'ERR_LOCKSTEP_CONSOLE_MISMATCH',
        `output of channel ${this.channel} is missing: byte ${this.#received} was due, ${offset} came`,
      );
    }
    const repeated = Math.min(this.#received - offset, bytes.length);
    if (repeated > 0) this.#compare(offset, bytes.subarray(0, repeated));
    const fresh = bytes.subarray(repeated);
    if (fresh.length === 0) return false;
    this.#remember(fresh);
    this.#received += fresh.length;
    if (this.push(fresh)) this.#settle();
    return true;
  }

  /** Everything is here: acknowledges it all and ends the stream. */
  finish(): void {
    this.#settle();
    this.push(null);
  }

  override _read(): void {
    this.#settle();
  }

  #settle(): void {
    if (this.#acknowledged >= this.#received) return;
    this.#acknowledged = this.#received;
    this.#acknowledge(this.channel, this.#received);
  }

  #remember(bytes: Buffer): void {
    this.#history.push(bytes);
    this.#historyBytes += bytes.length;
    while (this.#historyBytes - (this.#history[0]?.length ?? 0) >= HISTORY_BYTES) {
      this.#historyBytes -= this.#history.shift()?.length ?? 0;
    }
  }

  #compare(offset: number, bytes: Buffer): void {
    const history = Buffer.concat(this.#history);
    const begin = this.#received - history.length;
    const known = bytes.subarray(Math.max(0, begin - offset));
    const at = Math.max(offset, begin) - begin;
    if (!known.equals(history.subarray(at, at + known.length))) {
      throw new LockstepError(
        'ERR_LOCKSTEP_CONSOLE_MISMATCH',
        `output of channel ${this.channel} from byte ${offset} on was repeated and is not what it was before`,
      );
    }
    this.repeatedBytes += bytes.length;
  }
}
