import { spawnSync } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';

const CTRL_C = 3;
/** A second Ctrl-C within this time means us, not the guest. */
const SECOND_MS = 1000;

export interface Guest {
  /** Where typed bytes go; undefined when the guest reads this process's descriptor itself. */
  stdin?: Writable;
  signal(number: number): void;
  resize(rows: number, columns: number): void;
}

/**
 * Joins the terminal and this process's signals to a guest, until `release()`. The first Ctrl-C goes to the
 * guest; the second, and SIGTERM, call `stop` with the status to exit with.
 */
export function attachTerminal(guest: Guest, stop: (status: number) => void): { release(): void } {
  const input = process.stdin;
  const raw = input.isTTY && guest.stdin !== undefined;
  let interrupts = 0;

  const onInterrupt = () => {
    if (++interrupts === 1) guest.signal(2);
    else stop(130);
  };
  const onTerminate = () => stop(143);
  const onResize = () => guest.resize(process.stdout.rows, process.stdout.columns);
  process.on('SIGINT', onInterrupt);
  process.on('SIGTERM', onTerminate);
  process.stdout.on('resize', onResize);

  if (raw) makeRaw(input);
  if (guest.stdin) feed(input, guest.stdin, raw ? watchKeys(() => stop(130)) : undefined);

  return {
    release() {
      process.off('SIGINT', onInterrupt);
      process.off('SIGTERM', onTerminate);
      process.stdout.off('resize', onResize);
      if (raw) input.setRawMode(false);
      if (guest.stdin) {
        input.unpipe(guest.stdin);
        input.pause();
      }
    },
  };
}

/** Raw both ways: the guest's own terminal makes CR LF of its line ends, and Node's raw mode would again. */
function makeRaw(input: NodeJS.ReadStream): void {
  input.setRawMode(true);
  // Without stty there is one harmless CR too many. Leaving raw mode puts everything back as it was.
  spawnSync('stty', ['-opost'], { stdio: ['inherit', 'ignore', 'ignore'] });
}

function feed(input: Readable, to: Writable, watch?: (bytes: Buffer) => void): void {
  if (watch) input.on('data', watch);
  input.pipe(to);
}

/** In raw mode Ctrl-C is a byte that the guest gets like any other; twice in a row it is also for us. */
function watchKeys(second: () => void): (bytes: Buffer) => void {
  let last = Number.NEGATIVE_INFINITY;
  return (bytes) => {
    for (const byte of bytes) {
      const now = performance.now();
      if (byte === CTRL_C && now - last < SECOND_MS) return second();
      last = byte === CTRL_C ? now : Number.NEGATIVE_INFINITY;
    }
  };
}
