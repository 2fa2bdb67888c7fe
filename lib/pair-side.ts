import { EventEmitter } from 'node:events';
import type { Arbiter } from './arbiter.js';
import { parseAddress } from './console/address.js';
import { isOverForAll } from './end-marks.js';
import { LockstepError } from './errors.js';
import type { Ended, PairEvents, PairNoticeName } from './events.js';
import { Machine } from './machine.js';
import type { MachineStats } from './machine-state.js';
import type { NativeConfig, NativeNotice, NativePairStatus } from './native.js';
import { invalid } from './options.js';
import type { Stream } from './stream/stream.js';
import type { SecurityOptions } from './tls.js';

export interface PairOptions extends SecurityOptions {
  /** The link between the two sides: the primary listens, the shadow connects. `unix:/path` or `tcp:...`. */
  link: string;
  /**
   * Where this side, once it is live without the other, waits for its next shadow. A Unix path at `link` serves
   * for that by itself; a side with a TCP link needs this.
   */
  relink?: string;
  /** Where this side listens for {@link ConsoleClient}s. */
  console: string;
  /** The same for both sides. */
  arbiter: Arbiter;
  /** How often each side says that it lives. Default 50 ms. */
  heartbeatMs?: number;
  /** A side that is silent this long is taken for dead. Default 1,000 ms. */
  silenceMs?: number;
  /**
   * With a link over TCP: a side whose host acknowledges nothing for this long is taken for cut off. A process that
   * merely stands still is not. Default 200 ms.
   */
  cutMs?: number;
  /**
   * With a link over TCP: how long both sides, which live, may take to connect again after the link was reset
   * before one goes on without the other. A process that died is not waited for. 0: do not connect again.
   * Default 40 ms.
   */
  graceMs?: number;
  /**
   * What goes to the other side: compressed, or not, or only what has to wait because a link to another host takes
   * no more. Each side chooses for what it sends. Default 'auto'.
   */
  compress?: 'auto' | 'always' | 'never';
  /** How long to try to reach the other side. Default 10,000 ms. */
  connectMs?: number;
  /** Log bytes the shadow may lag before the primary is slowed, as it is for half a second's lag. Default 16 MiB. */
  lagBytesMax?: number;
  /** The shadow is given up when it is this far behind. Default 10,000 ms. */
  dropMs?: number;
  /** Output held for the shadow or an absent reader before the guest stands still. Default 1 MiB. */
  outputBytesMax?: number;
  /**
   * What to do when `outputBytesMax` is full of console output and no client is there: forget the oldest, which
   * the log has, or stop the guest. Default 'forget' for a machine with a network card, else 'stop'.
   */
  unread?: 'forget' | 'stop';
}

/** Where a pair stands. Counts are events (LSNs) unless named otherwise. */
export type PairStatus = NativePairStatus;

type PairConfig = NonNullable<NativeConfig['pair']>;

function pairConfig(options: PairOptions & { net?: unknown }, pairId: string): PairConfig {
  const {
    link,
    console,
    arbiter,
    heartbeatMs = 50,
    silenceMs = 1000,
    cutMs = 200,
    graceMs = 40,
    connectMs = 10_000,
  } = options;
  parseAddress(link);
  parseAddress(console);
  if (options.relink !== undefined) parseAddress(options.relink);
  if (heartbeatMs < 1 || silenceMs < 4 * heartbeatMs) {
    throw invalid(`silenceMs (${silenceMs}) must be at least four heartbeats of ${heartbeatMs} ms`);
  }
  if (cutMs < heartbeatMs)
    throw invalid(`cutMs (${cutMs}) must be at least a heartbeat of ${heartbeatMs} ms`);
  if (graceMs < 0 || graceMs > silenceMs)
    throw invalid(`graceMs (${graceMs}) must be between 0 and silenceMs (${silenceMs})`);
  return {
    pairId,
    linkAddress: link,
    relinkAddress: options.relink,
    consoleAddress: console,
    arbiter: arbiter.native,
    heartbeatMs,
    silenceMs,
    cutMs,
    graceMs,
    compress: options.compress ?? 'auto',
    connectMs,
    lagBytesMax: options.lagBytesMax ?? 16 << 20,
    dropMs: options.dropMs ?? 10_000,
    outputBytesMax: options.outputBytesMax ?? 1 << 20,
    forgetsUnread: (options.unread ?? (options.net ? 'forget' : 'stop')) === 'forget',
    tls: options.tls,
    insecure: options.insecure,
  };
}

/**
 * Makes a side once its arbiter answers, which is let go when the side's machine is over, and has been told. @internal
 */
export async function makeSide<T extends PairSide>(
  options: PairOptions & { net?: unknown },
  pairId: string,
  make: (pair: PairConfig) => T,
): Promise<T> {
  const { arbiter } = options;
  const config = pairConfig(options, pairId);
  await arbiter.acquire(config.connectMs);
  const release = () => arbiter.release();
  try {
    const side = make(config);
    side.leaves(
      side.ended
        .then((ended) =>
          isOverForAll(ended) ? arbiter.recordEnd(side.status()?.pairId ?? '', ended) : undefined,
        )
        .then(release, release),
    );
    return side;
  } catch (error) {
    release();
    throw error;
  }
}

/** What primary and shadow have in common. */
export class PairSide extends EventEmitter<PairEvents> {
  /** The machine of this side. Its console is the pair's: use a {@link ConsoleClient}. */
  readonly machine: Machine;

  readonly #stream: Stream | undefined;
  #left: Promise<void> = Promise.resolve();

  /** @internal */
  protected constructor(config: NativeConfig, stream?: Stream) {
    super();
    this.#stream = stream;
    const channels = { stdin: -1, stdout: -1, stderr: -1 };
    this.machine = new Machine(config, channels, (notice) => this.#understand(notice));
  }

  /**
   * As {@link Machine.ended}; 'fenced' when the other side took over, or was lost before this one stood by,
   * 'handed-over' when it was asked to.
   */
  get ended(): Promise<Ended> {
    return this.machine.ended;
  }

  /** null while a shadow is not connected yet. */
  status(): PairStatus | null {
    const status = this.machine.native.pairStatus();
    return 'live' in status ? (status as PairStatus) : null;
  }

  stats(): MachineStats {
    return this.machine.stats();
  }

  /**
   * Asks the shadow to go on in this side's place: a planned switch, that loses no connection. This side then ends
   * with 'handed-over'; if its shadow does not come to it within a second, it goes on itself. Throws
   * ERR_LOCKSTEP_STATE where no shadow is armed.
   */
  handOver(): void {
    if (this.machine.native.handOver()) return;
    throw new LockstepError('ERR_LOCKSTEP_STATE', 'no shadow stands by to go on', {
      hint: 'Ask the live side, when it is protected.',
    });
  }

  /** Resolves when this side's machine runs. */
  async start(options: { signal?: AbortSignal } = {}): Promise<void> {
    await this.machine.start(options);
    // From then on other shadows may join. A stream that fails, or a side that is closed before, says so itself.
    void this.#stream?.finished.then(() => this.machine.native.imageArrived()).catch(() => {});
  }

  /**
   * Ends this side; the other sees a loss and goes on: a shadow takes over, a primary goes on alone. The machine
   * is over for both when its program ends. Idempotent.
   */
  async close(): Promise<void> {
    await this.machine.close();
    await this.#left;
  }

  /** @internal What is still to be done when the machine is over. */
  leaves(left: Promise<void>): void {
    this.#left = left;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #understand(notice: NativeNotice): void {
    if (notice.type === 'warning') this.emit('warning', { code: notice.code, detail: notice.detail });
    if (notice.type !== 'pair') return;
    const { timeUs, lsn, generation, detail } = notice;
    this.emit(notice.notice as PairNoticeName, { timeUs, lsn, generation, detail });
  }
}
