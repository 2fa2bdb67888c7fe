import type { MachineState, PairNotice } from '../events.js';
import { monotonicUs } from '../events.js';
import type { PairSide } from '../pair-side.js';

/** A time in which this side's machine gave nothing to the world, because the other side was lost. */
export interface Pause {
  /** When it was over, by this host's clock, as ISO 8601. */
  endedAt: string;
  /** Whether this side took over or went on. */
  as: 'shadow' | 'primary';
  /** Since then this side's. */
  generation: number;
  /** Why the other side was given up. */
  cause: string;
  /** From the suspicion to the first output (shadow), or until output may leave again (primary), and its parts. */
  totalMs: number;
  claimMs: number;
  /** Reliving what had come; 0 for a primary. */
  catchUpMs: number;
}

/** One side of a pair as its operator sees it. Counts are events (LSNs) unless named otherwise. */
export interface SideReport {
  version: 1;
  pid: number;
  /** As it faces the world now; `joining` has no machine yet, `fenced` is over. */
  role: 'primary' | 'shadow' | 'joining' | 'fenced';
  startedAs: 'primary' | 'shadow';
  state: MachineState;
  upSeconds: number;
  generation: number;
  /** A shadow stands by (primary), or this side is that shadow. */
  protected: boolean;
  /** Of this side's machine, or received (shadow). */
  events: number;
  /** What the shadow has not executed yet. */
  lagEvents: number;
  /** What the shadow has not acknowledged yet: output behind it waits. */
  unacknowledgedEvents: number;
  logBytes: number;
  /** Of the last second or so. */
  logBytesPerSecond: number;
  outputBytesHeld: number;
  /** Console output that was forgotten because the console had no client. */
  outputBytesForgotten: number;
  linkRoundTripUs: number;
  /** The last 100, oldest first. */
  pauses: Pause[];
}

const PAUSES_KEPT = 100;
const RATE_MS = 1000;

/** Follows a side from its creation on. */
export class SideWatch {
  readonly #side: PairSide;
  readonly #startedAs: 'primary' | 'shadow';
  readonly #beganUs = monotonicUs();
  readonly #pauses: Pause[] = [];
  readonly #ticker: NodeJS.Timeout;
  /** Told of each pause when it is over. */
  onPause: ((pause: Pause) => void) | undefined;
  #armed = false;
  #suspected: PairNotice | undefined;
  #won: PairNotice | undefined;
  #live: PairNotice | undefined;
  #rate = 0;
  #counted: { bytes: number; us: number } | undefined;

  constructor(side: PairSide, startedAs: 'primary' | 'shadow') {
    this.#side = side;
    this.#startedAs = startedAs;
    side.on('armed', () => {
      this.#armed = true;
    });
    side.on('suspected', (notice) => {
      this.#suspected = notice;
      this.#won = this.#live = undefined;
    });
    side.on('claim-won', (notice) => {
      this.#won = notice;
    });
    side.on('live', (notice) => {
      this.#armed = false;
      this.#live = notice;
    });
    side.on('first-output', (notice) => this.#over('shadow', notice));
    side.on('alone', (notice) => {
      this.#armed = false;
      if (!this.#live) this.#over('primary', notice);
    });
    side.on('diverged', () => {
      this.#armed = false;
    });
    this.#ticker = setInterval(() => this.#count(), RATE_MS).unref();
  }

  close(): void {
    clearInterval(this.#ticker);
  }

  report(): SideReport {
    const { machine } = this.#side;
    const status = machine.state === 'closed' ? null : this.#side.status();
    const of = (name: 'lsnSent' | 'lsnAcked' | 'lsnExecuted' | 'lsnReceived') => status?.[name] ?? 0;
    const live = status?.live ?? false;
    const events = live ? of('lsnSent') : of('lsnReceived');
    const follows = live && (status?.protected ?? false);
    return {
      version: 1,
      pid: process.pid,
      role: !status ? 'joining' : status.fenced ? 'fenced' : live ? 'primary' : 'shadow',
      startedAs: this.#startedAs,
      state: machine.state,
      upSeconds: (monotonicUs() - this.#beganUs) / 1e6,
      generation: status?.generation ?? 0,
      protected: live ? follows : this.#armed && !(status?.fenced ?? false),
      events,
      lagEvents: live ? (follows ? events - of('lsnExecuted') : 0) : events - of('lsnExecuted'),
      unacknowledgedEvents: follows ? events - of('lsnAcked') : 0,
      logBytes: status?.logBytes ?? 0,
      logBytesPerSecond: this.#rate,
      outputBytesHeld: status?.outputBytesHeld ?? 0,
      outputBytesForgotten: status?.outputBytesForgotten ?? 0,
      linkRoundTripUs: status?.linkRoundTripUs ?? 0,
      pauses: [...this.#pauses],
    };
  }

  #count(): void {
    const bytes = this.#side.machine.state === 'closed' ? undefined : this.#side.status()?.logBytes;
    const us = monotonicUs();
    const before = this.#counted;
    this.#counted = bytes === undefined ? undefined : { bytes, us };
    this.#rate = before && bytes !== undefined ? ((bytes - before.bytes) * 1e6) / (us - before.us) : 0;
  }

  #over(as: Pause['as'], end: PairNotice): void {
    const [suspected, won] = [this.#suspected, this.#won];
    if (!suspected || !won) return;
    this.#suspected = undefined;
    const pause: Pause = {
      endedAt: new Date().toISOString(),
      as,
      generation: end.generation,
      cause: suspected.detail,
      totalMs: (end.timeUs - suspected.timeUs) / 1000,
      claimMs: (won.timeUs - suspected.timeUs) / 1000,
      catchUpMs: this.#live ? (this.#live.timeUs - won.timeUs) / 1000 : 0,
    };
    this.#pauses.push(pause);
    this.onPause?.(pause);
    if (this.#pauses.length > PAUSES_KEPT) this.#pauses.shift();
  }
}
