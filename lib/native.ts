/** The addon's own interface: thin and one to one. Nothing here is exported from the package. */

export interface NativeEnded {
  reason:
    | 'exited'
    | 'signal'
    | 'panic'
    | 'halted'
    | 'shutdown'
    | 'closed'
    | 'fenced'
    | 'handed-over'
    | 'end-of-log'
    | 'failed'
    | 'diverged';
  /** Exit status, or the signal's number. */
  status: number;
  /** One sentence about a fault, a panic or a divergence; or ''. */
  detail: string;
  divergence?: NativeDivergence;
}

export interface NativeDivergence {
  event: number;
  kind: 'access' | 'register' | 'device' | 'memory' | 'output' | 'end';
  where: string;
  expected: string;
  actual: string;
  /** The events just before, newest last, as one line each. */
  before: string[];
}

export interface NativeConfig {
  mode: 'run' | 'record' | 'replay' | 'primary' | 'shadow';
  /** The image file's bytes (not for replay and shadow: the log and the primary bring it). */
  image?: Uint8Array;
  /** The same in a file, of which a snapshot's content is mapped. */
  imagePath?: string;
  /** In place of an image: a machine that was forked. Good for one. */
  fork?: NativeFork;
  /** A snapshot or a fork: go on with this `seed`, not the one that it had. */
  reseed?: boolean;
  /** In place of them: an image that is still on its way, and what its memory adds up to once it is there. */
  store?: NativeBlockStore;
  storeSum?: string;
  memoryBytes?: number;
  cpuModel?: string;
  /** 32 bytes: what all randomness in the machine comes from. */
  seed?: Uint8Array;
  /** Fixed virtual time at boot in microseconds since the epoch: the host's clock is then never read. */
  fixedTimeUs?: number;
  digestEvery?: number;
  /** The recording host, for people: stands in the log's header. */
  host?: string;
  ttyFlags?: number;
  rows?: number;
  columns?: number;
  /** The network card. Addresses are numbers: 10.0.2.15 is 0x0a00020f. */
  net?: {
    mac: Uint8Array;
    ip: number;
    netmask: number;
    gateway: number;
    mtu: number;
    /** The guest asks for the three addresses; they are 0 here. */
    dhcp?: true;
  };
  /** What the card is joined to: an interface ('' makes up a name), or a socket's path with the other side's. */
  nic?: {
    tap?: string;
    bridge?: string;
    learned?: boolean;
    kept?: boolean;
    path?: string;
    peer?: string;
  };
  /** Host descriptors the machine's channels are joined to; the machine takes duplicates. -1: none. */
  stdin?: number;
  stdout?: number;
  stderr?: number;
  /** record, primary, shadow: where the log goes ('' none); replay: the log to read. */
  log?: string;
  force?: boolean;
  fsync?: boolean;
  imageByHash?: boolean;
  /** run, and replay of a log that starts at boot: note which pages of the image are touched. */
  tracePages?: boolean;
  /** replay: stand still (paused) after this event; 0: none. */
  stopAtEvent?: number;
  /** replay: when resumed after `stopAtEvent`, leave the log there and go on live, unrecorded. */
  liveAfterStop?: boolean;
  /** Native threads keep all that the process may do: no seccomp filter. */
  unconfined?: boolean;
  /** Test aid: kick the vCPU at random moments, this many times a second on average, with this seed. */
  kicksPerSecond?: number;
  kickSeed?: number;
  pair?: {
    pairId: string;
    linkAddress: string;
    relinkAddress?: string;
    /** primary: starts without waiting for a shadow. */
    alone?: boolean;
    consoleAddress: string;
    /** 'file:DIRECTORY', 'memory:NAME', or 'remote:NAME', served by a worker thread. */
    arbiter: string;
    heartbeatMs: number;
    silenceMs: number;
    cutMs: number;
    graceMs: number;
    compress: 'auto' | 'always' | 'never';
    connectMs: number;
    lagBytesMax: number;
    dropMs: number;
    outputBytesMax: number;
    forgetsUnread: boolean;
    /** PEM texts. */
    tls?: { ca: string; cert: string; key: string };
    insecure?: boolean;
  };
}

export interface NativeStats {
  exits: number;
  kicks: number;
  events: number;
  digests: number;
  interrupts: number;
  forcedStops: number;
  longestRunMs: number;
  dirtyPages: number;
  accesses: number;
  lsn: number;
  timeUs: number;
  inputBytes: number;
  logFrames: number;
  logEventBytes: number;
  logInputBytes: number;
  logDigestBytes: number;
  logCheckpointBytes: number;
  logFrameBytes: number;
  logFileBytes: number;
  digestsChecked: number;
  netFramesIn: number;
  netBytesIn: number;
  netDroppedIn: number;
  netFramesOut: number;
  netBytesOut: number;
  netDroppedOut: number;
  systemCalls: number;
  accepted: number;
  /** By call number: how often a call was answered ENOSYS. */
  unknownSyscalls: Record<string, number>;
}

export interface NativePairStatus {
  pairId: string;
  live: boolean;
  protected: boolean;
  fenced: boolean;
  generation: number;
  lsnSent: number;
  lsnReceived: number;
  lsnAcked: number;
  lsnExecuted: number;
  logBytes: number;
  outputBytesHeld: number;
  /** Of the console, while it had no client. */
  outputBytesForgotten: number;
  linkRoundTripUs: number;
}

/** One batch of notices; `listener` is called with arrays, never once per exit. */
export type NativeNotice =
  | { type: 'state'; state: 'running' | 'paused' | 'halted' | 'failed' | 'closed' }
  | { type: 'ended'; ended: NativeEnded }
  | { type: 'failed'; error: NativeError }
  | { type: 'pair'; notice: string; timeUs: number; lsn: number; generation: number; detail: string }
  | { type: 'warning'; code: string; detail: string }
  /** Six numbers an entry: position, lsn, address, value, kind, size | write << 8 (tracer.h). */
  | { type: 'trace'; trace: number; exits: BigUint64Array; dropped: number };

export interface NativeError {
  code: string;
  message: string;
  hint: string;
  operation: string;
  errno: number;
}

/** Opaque. */
export type NativeFork = object & { readonly __fork: never };

export interface NativeSnapshot {
  event: number;
  contentBytes: number;
  digest: { registers: string; devices: string; memory: string };
}

export interface NativeMachine {
  start(): void;
  pause(): Promise<void>;
  resume(): void;
  /** Joins every thread; resolves when descriptors are closed. Idempotent. */
  close(): Promise<void>;
  registers(): Record<string, bigint>;
  readMemory(address: number, length: number): Uint8Array;
  writeMemory(address: number, bytes: Uint8Array): void;
  digest(): Promise<{ registers: string; devices: string; memory: string }>;
  stats(): NativeStats;
  signal(number: number): void;
  resize(rows: number, columns: number): void;
  /** Raises an interrupt vector in a bare guest at the next position that can take it. */
  interrupt(vector: number): void;
  control(op: number, path: string): Promise<Uint8Array>;
  trace(options: { number: number; exits: boolean; dirtyPages: boolean; limit: number } | null): void;
  /** With tracePages: the image's pages that were touched, by number, in the order of their first touch. */
  touchedPages(): Float64Array;
  /** {} when there is no pair, or a shadow is not connected yet. */
  pairStatus(): NativePairStatus | Record<string, never>;
  /** Asks the shadow to go on in this side's place; false when none is armed. */
  handOver(): boolean;
  /** At the machine's next position; an existing file is kept unless `force`. */
  snapshot(path: string, force: boolean): Promise<NativeSnapshot>;
  fork(): Promise<NativeFork>;
  /** Of a side whose image was on its way, and is whole: other shadows may join. */
  imageArrived(): Promise<void>;
  /** A running machine keeps the process alive unless unref() was called. */
  ref(): void;
  unref(): void;
}

/** The file of an image that is still on its way. */
export interface NativeBlockStore {
  /** Finds the blocks that the file has already. Once, and first. */
  recover(): Promise<void>;
  /**
   * The blocks of a zstd frame, each from its byte in it on. Resolves with the first that is not what it should be;
   * -1: there is none.
   */
  put(frame: Uint8Array, blocks: readonly number[], within: readonly number[]): Promise<number>;
  putPlain(block: number, bytes: Uint8Array): Promise<boolean>;
  /** 1 for each block that is there. */
  have(): Uint8Array;
  /** Blocks that somebody had to wait for so far. */
  wanted(): number;
  /** What memory adds up to, once everything is there. */
  memorySum(): Promise<string>;
  sync(): Promise<void>;
  /** Machines that were made of it go on. */
  close(): void;
}

/** kvm/probe.h. Texts are '' and numbers 0 where nothing could be found out. */
export interface NativeProbe {
  /** '' when KVM is usable. */
  error: string;
  errorCode: string;
  hint: string;
  apiVersion: number;
  backEnd: string;
  vendor: string;
  cpuModel: string;
  syncRegs: boolean;
  dirtyRing: boolean;
  immediateExit: boolean;
  performanceCounter: boolean;
  /** Memory can be filled while it is used, as `lockstep stream` does. */
  pageFaults: boolean;
  /** Guest code at CPL 0 runs in KVM's instruction emulator. */
  emulatedKernelCode: boolean;
  kernelInstructionsPerUs: number;
  /** 'cpl0' or 'cpl3'. */
  syscallArrives: string;
  exitRoundTripUs: number;
}

export interface NativeRecordingInfo {
  version: number;
  options: Record<string, string>;
  imageBytes: number;
  imageSha256: string;
  events: number;
  digests: number;
  checkpoints: number;
  takeovers: number;
  fileBytes: number;
  wholeBytes: number;
  eventBytes: number;
  inputBytes: number;
  digestBytes: number;
  checkpointBytes: number;
  ending: 'ended' | 'cut';
  endReason: string;
  endStatus: number;
  /** The event that the log goes on from, with the machine's state there; 0: it starts at boot. */
  startEvent: number;
  firstTimeUs: number;
  lastTimeUs: number;
}

export interface NativeLogReader {
  /** Up to `limit` records, each a plain object with a `type`; an empty array at the end. */
  next(limit: number): Record<string, unknown>[];
  close(): void;
}

export interface Native {
  /** An AF_UNIX stream pair, CLOEXEC: one end for a net.Socket, the other for the machine. */
  socketPair(): [number, number];
  /** Closes one end of such a pair. */
  closeDescriptor(fd: number): void;
  probe(): NativeProbe;
  machine(config: NativeConfig, listener: (batch: NativeNotice[]) => void): NativeMachine;
  openLog(path: string): NativeLogReader;
  /** Takes the file up, or makes it. `wanted` hears of each block for which somebody stands still, once. */
  openBlockStore(path: string, front: Uint8Array, wanted: (block: number) => void): NativeBlockStore;
  /** A zstd frame. */
  compress(bytes: Uint8Array, level: number): Promise<Uint8Array>;
  /** Empty where it is no frame, or holds more. */
  decompress(frame: Uint8Array, bytesMax: number): Promise<Uint8Array>;
  /** Blocks without which no machine can be made of the image with this front. */
  neededFirst(front: Uint8Array): number[];
  /** What memory adds up to that starts from this image. */
  imageSum(path: string, front: Uint8Array): Promise<string>;
  logInfo(path: string): Promise<NativeRecordingInfo>;
  logImage(path: string): Uint8Array;
  repairLog(path: string): { keptBytes: number; droppedBytes: number; events: number };
  arbiterClaim(
    arbiter: string,
    pairId: string,
    generation: number,
    claimId: string,
  ): 'won' | 'lost' | 'unreachable';
  arbiterArm(arbiter: string, pairId: string, generation: number, shadowId: string): boolean;
  /** Contents by file name: an authority, and certificates of a side and of a console client. 0 days: expired. */
  /** Machines of this process that are made when /dev/kvm cannot be opened any more use it as it is open now. */
  keepKvm(): void;
  tlsKeys(days: number): Record<string, string>;
  /** This thread answers what is asked at 'remote:NAME', until it ends. Who asks waits no longer than the limit. */
  serveArbiter(
    name: string,
    answerMsMax: number,
    serve: (
      request: number,
      kind: 'claim' | 'arm',
      pairId: string,
      generation: number,
      askerId: string,
    ) => void,
  ): void;
  /** An armed shadow is answered 'won'. */
  answerArbiter(name: string, request: number, answer: 'won' | 'lost' | 'unreachable'): void;
}
