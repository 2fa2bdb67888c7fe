export type Registers = Record<string, bigint>;

/** Hashes of a machine's state: equal digests, equal machines. */
export interface Digest {
  registers: string;
  devices: string;
  memory: string;
}

export interface MachineStats {
  /** Device accesses since boot: the machine's position. */
  accesses: number;
  /** The last event's number. */
  lsn: number;
  /** Virtual time, in microseconds since 1970. */
  timeUs: number;
  /** Returns of KVM_RUN, and how many of them were kicks from outside. */
  exits: number;
  kicks: number;
  interrupts: number;
  /** How often a program that computed was stopped because another of its threads, or a timer, was due. */
  forcedStops: number;
  /** The longest time the guest computed between two accesses. */
  longestRunMs: number;
  dirtyPages: number;
  systemCalls: number;
  /** Connections that the program has accepted. */
  accepted: number;
  /** System calls answered ENOSYS because the guest kernel does not know them, by name. */
  unknownSyscalls: Record<string, number>;
  /** Recorded or replayed so far. */
  events: number;
  digests: number;
  digestsChecked: number;
  /** Console bytes that entered the machine. */
  inputBytes: number;
  /** Ethernet frames that entered and left the machine. Dropped: by the card, or by the host's side of it. */
  netFramesIn: number;
  netBytesIn: number;
  netDroppedIn: number;
  netFramesOut: number;
  netBytesOut: number;
  netDroppedOut: number;
  /** The log: size of its file, and of what this machine put into it; event, input, digest and checkpoint (forced stop) bytes before compression. */
  logFileBytes: number;
  logFrames: number;
  logFrameBytes: number;
  logEventBytes: number;
  logInputBytes: number;
  logDigestBytes: number;
  logCheckpointBytes: number;
}
