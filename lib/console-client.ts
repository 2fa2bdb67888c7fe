import { EventEmitter } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { type ClientMessage, CONSOLE_VERSION, type ServerMessage } from './console/console-message.js';
import { InputQueue } from './console/input-queue.js';
import { OutputChannel } from './console/output-channel.js';
import { Side } from './console/side.js';
import { deferred, withSignal } from './deferred.js';
import { type ErrorCode, LockstepError } from './errors.js';
import { END_REASONS, type Ended, monotonicUs } from './events.js';
import { checkSecure, type SecurityOptions } from './tls.js';

export interface ConsoleClientOptions extends SecurityOptions {
  /** The console addresses of every side the pair may have: `unix:/path` or `tcp:host:port`. */
  addresses: string[];
  /** Demand this pair; default: whichever answers first. */
  pairId?: string;
  /** Give up when no side was live for this long. Default 30,000 ms. */
  unreachableMs?: number;
  /** Abandons the first connect. */
  signal?: AbortSignal;
}

/** No side answered for a while, and then one did, and its first new output is here. Times by CLOCK_MONOTONIC, in microseconds. */
export interface ConsolePause {
  /** How long no side was live, in milliseconds: from `lostUs` to `welcomedUs`. */
  durationMs: number;
  lostUs: number;
  welcomedUs: number;
  /** The first new output: later than `welcomedUs` also when the program had nothing to say. */
  resumedUs: number;
  /** The side that answers now, and its generation. */
  address: string;
  generation: number;
}

export interface ConsoleClientEvents {
  /** A side is live and talks to this client. */
  live: [{ address: string; generation: number }];
  /** The live side is gone. */
  lost: [{ address: string }];
  pause: [ConsolePause];
  /** Output that this client was not there for, and that is no longer kept: another had it, or nobody. */
  gone: [{ channel: number; bytes: number }];
}

type Welcome = Extract<ServerMessage, { type: 'welcome' }>;
/** What only the live side may say. */
type LiveMessage = Exclude<ServerMessage, { type: 'welcome' | 'error' }>;

/**
 * The console of a pair: its streams go on across takeovers with nothing lost, repeated or out of order.
 *
 * It stays connected to every address of the pair. The side that is live answers; input that was not
 * acknowledged is sent again to the next one, output that comes twice is compared and dropped. A pair has one
 * console client at a time; a newer one replaces it.
 */
export class ConsoleClient extends EventEmitter<ConsoleClientEvents> {
  /** The program's input. Writers wait while the pair takes none. */
  readonly stdin: Writable;
  /** The program's output; of a bare guest, its serial port's. Unread, it stops the guest. */
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** How the machine ended, when all its output is here. Rejects when the pair is lost. */
  readonly ended: Promise<Ended>;

  readonly #input: InputQueue;
  readonly #channels: Map<number, OutputChannel>;
  readonly #sides: Side[];
  readonly #unreachableMs: number;
  readonly #end = deferred<Ended>();
  readonly #first = deferred<void>();
  #live: Side | undefined;
  #generation = 0;
  #pairId: string;
  #deadline: NodeJS.Timeout | undefined;
  #lost: { us: number; welcomedUs: number } | undefined;
  #window: ClientMessage | undefined;
  #closing: Promise<void> | undefined;

  /** Connects and resolves when a side of the pair is live and has answered. */
  static async connect(options: ConsoleClientOptions): Promise<ConsoleClient> {
    const client = new ConsoleClient(options);
    try {
      await withSignal(client.#first.promise, options.signal);
      return client;
    } catch (error) {
      await client.close();
      throw error;
    }
  }

  private constructor(options: ConsoleClientOptions) {
    super();
    for (const address of options.addresses) checkSecure(address, options);
    if (options.addresses.length === 0) {
      throw new LockstepError('ERR_LOCKSTEP_INVALID_ARGUMENT', 'a console client needs an address');
    }
    this.#pairId = options.pairId ?? '';
    this.#unreachableMs = options.unreachableMs ?? 30_000;
    this.#input = new InputQueue((message) => this.#live?.send(message));
    const acknowledge = (channel: number, offset: number) =>
      this.#live?.send({ type: 'output-ack', channel, offset });
    this.#channels = new Map([0, 1, 4].map((channel) => [channel, new OutputChannel(channel, acknowledge)]));
    this.stdin = this.#input;
    this.stdout = this.#channels.get(0) as OutputChannel;
    this.stderr = this.#channels.get(1) as OutputChannel;
    this.ended = this.#end.promise;
    this.#sides = options.addresses.map(
      (address) =>
        new Side(
          address,
          {
            hello: () => ({ pairId: this.#pairId, have: this.#have() }),
            message: (side, message) => this.#understand(side, message),
            changed: (side, connected) => this.#changed(side, connected),
            failed: (error) => this.#fail(error),
          },
          options.tls,
        ),
    );
    this.#armDeadline();
    for (const side of this.#sides) side.connect();
  }

  /** The serial port's output, of a bare guest. */
  get serial(): Readable {
    return this.#channels.get(4) as OutputChannel;
  }

  /** The pair's id, as soon as a side has answered. */
  get pairId(): string {
    return this.#pairId;
  }

  /** Sends a signal to the guest program. Dropped while no side is live. */
  signal(number: number): void {
    this.#live?.send({ type: 'signal', number });
  }

  /** Tells the guest its terminal's size; after a takeover, again. */
  resize(rows: number, columns: number): void {
    this.#window = { type: 'window', rows, columns };
    this.#live?.send(this.#window);
  }

  /** Output bytes that came twice, were equal, and were dropped. */
  get repeatedBytes(): number {
    let sum = 0;
    for (const channel of this.#channels.values()) sum += channel.repeatedBytes;
    return sum;
  }

  ref(): void {
    for (const side of this.#sides) side.ref();
    this.#deadline?.ref();
  }

  unref(): void {
    for (const side of this.#sides) side.unref();
    this.#deadline?.unref();
  }

  /** Hangs up. The pair goes on without a client. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#shut(
      new LockstepError('ERR_LOCKSTEP_STATE', 'the console client was closed before the machine ended'),
    );
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #have() {
    return [...this.#channels.values()].map(({ channel, received }) => ({ channel, offset: received }));
  }

  #understand(side: Side, message: ServerMessage): void {
    if (this.#closing) return;
    switch (message.type) {
      case 'error':
        this.#refused(side, message.code, message.text);
        break;
      case 'welcome':
        this.#welcomed(side, message);
        break;
      default:
        if (side === this.#live) this.#heed(side, message);
    }
  }

  #heed(side: Side, message: LiveMessage): void {
    switch (message.type) {
      case 'output':
        if (this.#channel(message.channel).receive(message.offset, message.bytes)) this.#resumed(side);
        break;
      case 'input-ack':
        this.#input.acknowledge(message.offset, message.eof);
        break;
      case 'ended':
        this.#finish(message);
        break;
    }
  }

  #channel(channel: number): OutputChannel {
    const found = this.#channels.get(channel);
    if (!found) throw new LockstepError('ERR_LOCKSTEP_CONSOLE_PROTOCOL', `there is no channel ${channel}`);
    return found;
  }

  #welcomed(side: Side, welcome: Welcome): void {
    if (welcome.version !== CONSOLE_VERSION) {
      throw new LockstepError('ERR_LOCKSTEP_CONSOLE_VERSION', `the pair speaks version ${welcome.version}`);
    }
    // A side that was fenced off while it slept answers with an old generation: it is not the one.
    if (welcome.generation < this.#generation || (this.#pairId && welcome.pairId !== this.#pairId)) {
      side.reset();
      return;
    }
    const previous = this.#live;
    if (previous && previous !== side) {
      this.#lose(previous);
      previous.reset();
    }
    clearTimeout(this.#deadline);
    this.#live = side;
    this.#generation = welcome.generation;
    this.#pairId = welcome.pairId;
    if (this.#lost) this.#lost.welcomedUs = monotonicUs();
    if (this.#window) side.send(this.#window);
    for (const { channel, offset } of welcome.outputStart) {
      const bytes = this.#channel(channel).start(offset);
      if (bytes > 0) this.emit('gone', { channel, bytes });
    }
    this.#input.start(welcome.inputOffset, welcome.inputEnded, welcome.inputWindow);
    this.#first.resolve();
    this.emit('live', { address: side.address, generation: welcome.generation });
  }

  #refused(side: Side, code: string, text: string): void {
    if (code === 'ERR_LOCKSTEP_OTHER_PAIR') void side.close();
    else this.#fail(new LockstepError(code as ErrorCode, text));
  }

  #changed(side: Side, connected: boolean): void {
    // Hanging up is no loss.
    if (!connected && side === this.#live && !this.#closing) this.#lose(side);
  }

  #lose(side: Side): void {
    this.#live = undefined;
    this.#input.stop();
    this.#lost ??= { us: monotonicUs(), welcomedUs: 0 };
    this.#armDeadline();
    this.emit('lost', { address: side.address });
  }

  #resumed(side: Side): void {
    if (!this.#lost) return;
    const { us: lostUs, welcomedUs } = this.#lost;
    this.#lost = undefined;
    const resumedUs = monotonicUs();
    const durationMs = (welcomedUs - lostUs) / 1000;
    const { address } = side;
    this.emit('pause', { durationMs, lostUs, welcomedUs, resumedUs, address, generation: this.#generation });
  }

  #armDeadline(): void {
    clearTimeout(this.#deadline);
    this.#deadline = setTimeout(() => {
      const where = this.#sides.map((side) => side.address).join(', ');
      this.#fail(
        new LockstepError(
          'ERR_LOCKSTEP_CONSOLE_UNREACHABLE',
          `no side of the pair was live for ${this.#unreachableMs} ms at ${where}`,
          { hint: 'Is either side still running, and are these its console addresses?' },
        ),
      );
    }, this.#unreachableMs);
  }

  #finish(message: Extract<ServerMessage, { type: 'ended' }>): void {
    for (const { channel, offset } of message.totals) {
      const { received } = this.#channel(channel);
      if (received !== offset) {
        throw new LockstepError(
          'ERR_LOCKSTEP_CONSOLE_MISMATCH',
          `the machine ended after ${offset} bytes on channel ${channel}, of which ${received} came`,
        );
      }
    }
    for (const channel of this.#channels.values()) channel.finish();
    this.#end.resolve({
      reason: END_REASONS[message.reason] ?? 'failed',
      status: message.status,
      detail: '',
    });
    this.#closing ??= this.#shut();
  }

  #fail(error: unknown): void {
    this.#closing ??= this.#shut(error);
  }

  async #shut(error?: unknown): Promise<void> {
    clearTimeout(this.#deadline);
    if (error !== undefined) {
      this.#end.reject(error);
      this.#first.reject(error);
      // `ended` tells why; a stream that nobody listens to must not bring the process down.
      for (const channel of this.#channels.values()) channel.destroy();
    }
    this.#input.abandon();
    await Promise.all(this.#sides.map((side) => side.close()));
  }
}
