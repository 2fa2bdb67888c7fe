import { EventEmitter } from 'node:events';
import { constants } from 'node:os';
import type { Readable, Writable } from 'node:stream';
import { native } from './addon.js';
import { Channels } from './channels.js';
import { deferred, withSignal } from './deferred.js';
import { DivergenceError, fromNotice, guarded, LockstepError } from './errors.js';
import type { Ended, MachineEvents, MachineState } from './events.js';
import { type GuestFile, parseListing, requireAbsolute } from './guest-files.js';
import { type GuestTreeEntry, parseTree } from './guest-tree-answer.js';
import { Image } from './image.js';
import type { Digest, MachineStats, Registers } from './machine-state.js';
import type { NativeConfig, NativeEnded, NativeMachine, NativeNotice } from './native.js';
import {
  type ConsoleOptions,
  type ContinueOptions,
  continueConfig,
  logConfig,
  type MachineOptions,
  machineConfig,
  type OptionalLogOptions,
} from './options.js';
import { nameSyscalls } from './syscall-names.js';
import { type TraceBatch, type TraceOptions, TraceQueue } from './trace.js';

export type RestoreOptions = ContinueOptions & ConsoleOptions;

/** With a `log`, the fork is recorded. */
export type ForkOptions = ContinueOptions & ConsoleOptions & OptionalLogOptions;

/** What {@link Machine.snapshot} took. */
export interface SnapshotInfo {
  /** The event that it was taken after. */
  event: number;
  /** Memory that the file holds. */
  contentBytes: number;
  /** Of the machine there, and of each that goes on from it before it runs. */
  digest: Digest;
}

/** Hears every notice of the addon after the machine itself has. @internal */
export type NoticeListener = (notice: NativeNotice) => void;

/** Machines that run are not collected, whoever forgets them. */
const running = new Set<Machine>();

/** With a machine that was collected go the streams that nobody has. */
const collected = new FinalizationRegistry<Channels>((channels) => channels.abandon());

/**
 * A virtual machine. {@link Machine.create} makes one that is not recorded; `record()`, `replay()`,
 * {@link Primary} and {@link Shadow} make the others.
 *
 * A running machine keeps the process alive unless {@link Machine.unref} was called. One that ended can still
 * be inspected until it is closed.
 */
export class Machine extends EventEmitter<MachineEvents> {
  /**
   * How the machine ended: resolves when the program exits or the machine is closed, rejects when Lockstep
   * fails, and with a {@link DivergenceError} when a replay goes another way.
   */
  readonly ended: Promise<Ended>;

  readonly #native: NativeMachine;
  readonly #channels: Channels;
  readonly #end = deferred<Ended>();
  readonly #running = deferred<void>();
  readonly #listener: NoticeListener | undefined;
  #state: MachineState = 'created';
  #trace: TraceQueue | undefined;
  #traces = 0;
  #closing: Promise<void> | undefined;
  #referenced = true;
  #waiting = 0;

  /** Makes a machine from an image, without starting it. Nothing is recorded. */
  static async create(image: Image, options: MachineOptions & ConsoleOptions = {}): Promise<Machine> {
    return new Machine({ mode: 'run', ...machineConfig(image, options) }, options);
  }

  /**
   * Makes a machine that goes on where a snapshot was taken, without starting it. Nothing is recorded: `record()` and
   * {@link Primary} take `Image.open(path)` like any image. Memory is read from the file when it is used.
   */
  static async restore(path: string, options: RestoreOptions = {}): Promise<Machine> {
    const image = await Image.open(path);
    if (!image.isSnapshot)
      throw new LockstepError('ERR_LOCKSTEP_INVALID_ARGUMENT', `${path} is an image, and no snapshot`, {
        hint: 'Machine.create boots images.',
      });
    return await Machine.create(image, options);
  }

  /** @internal */
  constructor(config: NativeConfig, console: ConsoleOptions, listener?: NoticeListener) {
    super();
    this.ended = this.#end.promise;
    this.#listener = listener;
    this.#channels = new Channels(console);
    try {
      const machine = { ...config, ...this.#channels.descriptors };
      const listener = Machine.#listen(new WeakRef(this));
      this.#native = guarded(() => native().machine(machine, listener));
    } catch (error) {
      this.#channels.destroy();
      throw error;
    }
    this.#channels.release();
    collected.register(this, this.#channels);
  }

  get state(): MachineState {
    return this.#state;
  }

  /** The program's standard input, or a bare guest's serial port. Ends the guest's input when it ends. */
  get stdin(): Writable {
    return this.#channels.stdin;
  }

  /** What the program, or a bare guest's serial port, puts out. Unread, it stops the guest. */
  get stdout(): Readable {
    return this.#channels.stdout;
  }

  get stderr(): Readable {
    return this.#channels.stderr;
  }

  /** Resolves when the guest runs. Aborting closes the machine. */
  async start({ signal }: { signal?: AbortSignal } = {}): Promise<void> {
    if (this.#state !== 'created') {
      throw new LockstepError('ERR_LOCKSTEP_STATE', `a machine that is ${this.#state} cannot be started`);
    }
    try {
      await this.#awaited(() => this.#start(signal));
    } catch (error) {
      if (signal?.aborted) await this.close();
      throw error;
    }
  }

  /** Stops the guest at its next position. */
  pause(): Promise<void> {
    return this.#awaited(() => this.#native.pause());
  }

  resume(): void {
    guarded(() => this.#native.resume());
  }

  /** Ends the machine, its log cleanly, and frees all it holds. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  ref(): this {
    this.#referenced = true;
    if (!this.#end.settled) this.#native.ref();
    this.#channels.ref();
    return this;
  }

  /** Lets the process end although the machine runs. */
  unref(): this {
    this.#referenced = false;
    this.#settle();
    this.#channels.unref();
    return this;
  }

  /** The vCPU's registers. Throws ERR_LOCKSTEP_RUNNING unless the machine stands still: pause first. */
  registers(): Registers {
    return guarded(() => this.#native.registers());
  }

  /** Guest-physical memory of a machine that stands still. Throws ERR_LOCKSTEP_ADDRESS beyond its end. */
  readMemory(address: bigint, length: number): Uint8Array {
    return guarded(() => this.#native.readMemory(Number(address), length));
  }

  /** Writes guest-physical memory. Throws ERR_LOCKSTEP_RECORDED where a log would not know of it. */
  writeMemory(address: bigint, bytes: Uint8Array): void {
    guarded(() => this.#native.writeMemory(Number(address), bytes));
  }

  /** A file's contents, as the guest has it now. Recorded machines log the request. */
  readFile(path: string): Promise<Uint8Array> {
    return this.#control('R', path);
  }

  /** What a directory of the guest holds. */
  async listFiles(path: string): Promise<GuestFile[]> {
    return parseListing(await this.#control('L', path));
  }

  /** What one path of the guest is. */
  async statFile(path: string): Promise<GuestFile> {
    return parseListing(await this.#control('S', path))[0] as GuestFile;
  }

  /** A directory with all that is below it, as it is at one moment; or one file. Recorded machines log the request. */
  async readTree(path: string): Promise<GuestTreeEntry[]> {
    return parseTree(await this.#control('T', path));
  }

  /**
   * Writes the machine as it is at its next position, or where it is paused, to a file: an image that other machines
   * go on from. The guest stands still meanwhile, and notices nothing. Pages of zeros are left out, equal ones stand
   * there once; the file appears when it is whole, with mode 0600, for it holds the guest's secrets. Throws
   * ERR_LOCKSTEP_INVALID_ARGUMENT where it exists and `force` is off, ERR_LOCKSTEP_DISK_FULL, and ERR_LOCKSTEP_STATE of
   * a machine that has not run yet, is over, or is its primary's.
   */
  snapshot(path: string, { force = false }: { force?: boolean } = {}): Promise<SnapshotInfo> {
    return this.#awaited(() => this.#native.snapshot(path, force));
  }

  /**
   * A second machine that goes on from where this one is, at its next position: not started, with a console and a log
   * of its own, and its network card joined to nothing unless `net` says where. Memory is shared until one of them
   * writes to it. The first fork since much was written moves that where it can be shared.
   */
  async fork(options: ForkOptions = {}): Promise<Machine> {
    const config = { ...continueConfig(options), ...logConfig(options) };
    const fork = await this.#awaited(() => this.#native.fork());
    return new Machine({ mode: options.log === undefined ? 'run' : 'record', ...config, fork }, options);
  }

  /** Hashes registers, devices and all of memory at the next position. */
  digest(): Promise<Digest> {
    return this.#awaited(() => this.#native.digest());
  }

  stats(): MachineStats {
    const stats = guarded(() => this.#native.stats());
    return { ...stats, unknownSyscalls: nameSyscalls(stats.unknownSyscalls) };
  }

  /** Sends a signal, such as 'SIGINT', to the guest's program. */
  signal(signal: NodeJS.Signals | number): void {
    const number = typeof signal === 'number' ? signal : constants.signals[signal];
    guarded(() => this.#native.signal(number));
  }

  /** Tells the guest its terminal's new size. */
  resize(rows: number, columns: number): void {
    guarded(() => this.#native.resize(rows, columns));
  }

  /** Raises an interrupt vector in a bare guest, at the next position that can take it. */
  interrupt(vector: number): void {
    guarded(() => this.#native.interrupt(vector));
  }

  /**
   * The guest's device accesses and dirtied pages, in batches, until the machine is over or the loop is left.
   * One trace at a time. What comes faster than it is taken is dropped and counted.
   */
  async *trace(options: TraceOptions = {}): AsyncGenerator<TraceBatch> {
    if (this.#trace) throw new LockstepError('ERR_LOCKSTEP_STATE', 'this machine is being traced already');
    const { exits = true, dirtyPages = false, entriesMax = 16_384, filter, signal } = options;
    const number = ++this.#traces;
    const queue = new TraceQueue(number);
    this.#trace = queue;
    try {
      if (this.#end.settled) return;
      guarded(() => this.#native.trace({ number, exits, dirtyPages, limit: entriesMax }));
      for (;;) {
        const batch = await withSignal(queue.next(filter), signal);
        if (!batch) return;
        yield batch;
      }
    } finally {
      this.#trace = undefined;
      if (!this.#closing && !this.#end.settled) guarded(() => this.#native.trace(null));
    }
  }

  /** @internal */
  get native(): NativeMachine {
    return this.#native;
  }

  async #control(op: 'R' | 'L' | 'S' | 'T', path: string): Promise<Uint8Array> {
    requireAbsolute(path);
    return await this.#awaited(() => this.#native.control(op.charCodeAt(0), path));
  }

  /** What somebody waits for keeps the process alive, also when the machine itself does not or no longer. */
  async #awaited<T>(call: () => Promise<T>): Promise<T> {
    this.#waiting++;
    this.#native.ref();
    try {
      return await guarded(call);
    } finally {
      this.#waiting--;
      this.#settle();
    }
  }

  #settle(): void {
    const alive = this.#referenced && !this.#end.settled;
    if (!alive && this.#waiting === 0) this.#native.unref();
  }

  #start(signal: AbortSignal | undefined): Promise<void> {
    if (!signal?.aborted) {
      this.#native.start();
      running.add(this);
    }
    return withSignal(this.#running.promise, signal);
  }

  /** The addon holds this for good, and through it no machine. */
  static #listen(machine: WeakRef<Machine>): (batch: NativeNotice[]) => void {
    return (batch) => {
      const target = machine.deref();
      if (target) target.#understand(batch);
    };
  }

  #understand(batch: NativeNotice[]): void {
    for (const notice of batch) {
      this.#take(notice);
      this.#listener?.(notice);
    }
  }

  #take(notice: NativeNotice): void {
    switch (notice.type) {
      case 'state':
        this.#state = notice.state;
        if (notice.state === 'running' || notice.state === 'paused') this.#running.resolve();
        this.emit('state', notice.state);
        break;
      case 'ended':
        this.#over(notice.ended);
        break;
      case 'failed':
        this.#over(fromNotice(notice.error));
        break;
      case 'warning':
        this.emit('warning', { code: notice.code, detail: notice.detail });
        break;
      case 'trace':
        // What an earlier trace had left is nobody's.
        if (this.#trace?.number === notice.trace) this.#trace.push(notice.exits, notice.dropped);
        break;
    }
  }

  #over(how: NativeEnded | LockstepError): void {
    const diverged =
      !(how instanceof LockstepError) && how.divergence && new DivergenceError(how.divergence, how.detail);
    const error = how instanceof LockstepError ? how : diverged;
    if (error) {
      this.#end.reject(error);
      this.#running.reject(error);
    } else {
      const { reason, status, detail } = how as NativeEnded;
      this.#end.resolve({ reason, status, detail });
      this.#running.resolve();
    }
    this.#channels.endInput();
    this.#trace?.end();
    this.#settle();
    running.delete(this);
  }

  async #close(): Promise<void> {
    await this.#awaited(() => this.#native.close());
    this.#channels.abandon();
    this.#trace?.end();
    running.delete(this);
    this.#state = 'closed';
    if (!this.#end.settled) this.#end.resolve({ reason: 'closed', status: 0, detail: '' });
    this.#running.reject(new LockstepError('ERR_LOCKSTEP_STATE', 'the machine was closed before it ran'));
  }
}
