/** The progress of a stream, on stderr: one line that changes until the guest speaks there too, then a few. */
import type { Stream, StreamProgress } from '../stream/stream.js';
import { bytes, count } from './report.js';

const STEP_PERCENT = 10;

export class StreamReport {
  readonly #flags: { quiet?: boolean; json?: boolean };
  #inPlace = process.stderr.isTTY;
  #lineOpen = false;
  #told = '';

  constructor(flags: { quiet?: boolean; json?: boolean }) {
    this.#flags = flags;
  }

  /** Until the stream ends. */
  async watch(stream: Stream, signal: AbortSignal): Promise<void> {
    try {
      for await (const status of stream.progress({ signal })) this.#tell(status);
    } catch {
      // Whoever aborts knows.
    }
    this.#tell(stream.status);
  }

  /** What is written in place would go through the guest's lines. */
  guestRuns(): void {
    this.close();
    this.#inPlace = false;
  }

  guestEnded(): void {
    this.#inPlace = process.stderr.isTTY;
  }

  close(): void {
    if (this.#lineOpen) process.stderr.write('\n');
    this.#lineOpen = false;
  }

  #tell(status: StreamProgress): void {
    if (this.#flags.json) {
      process.stderr.write(`${JSON.stringify({ event: 'stream', ...status })}\n`);
      return;
    }
    if (this.#flags.quiet) return;
    const line = `lockstep: ${describe(status)}`;
    if (this.#inPlace) {
      process.stderr.write(`\r\x1b[K${line}`);
      this.#lineOpen = true;
      return;
    }
    const step = Math.floor((100 * status.bytes) / status.bytesTotal / STEP_PERCENT);
    const what = `${status.state} ${status.trouble ?? ''} ${status.state === 'fetching' ? step : ''}`;
    if (what === this.#told) return;
    this.#told = what;
    process.stderr.write(`${line}\n`);
  }
}

function describe(status: StreamProgress): string {
  const { state, bytes: have, bytesTotal, rate, demandFaults, waitedFor, refetched, trouble } = status;
  const share = `${bytes(have)} of ${bytes(bytesTotal)} (${Math.floor((100 * have) / bytesTotal)}%)`;
  const more = [
    ...(state === 'starting' || state === 'fetching' ? [`${bytes(rate)}/s`] : []),
    ...(demandFaults > 0 ? [`the program waited for ${count(demandFaults, 'block')}`] : []),
    ...(waitedFor > 0 ? [`and waits for ${waitedFor}`] : []),
    ...(refetched > 0 ? [`${refetched} came damaged`] : []),
  ];
  const what = {
    starting: 'fetching what is needed to start',
    fetching: 'fetching the rest',
    waiting: `waiting for a server: ${trouble}`,
    whole: 'whole and verified',
    failed: `stopped: ${trouble}`,
    closed: 'stopped; what was fetched is kept for another time',
  }[state];
  return [`${share}, ${what}`, ...more].join(', ');
}
