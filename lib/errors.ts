import type { NativeDivergence, NativeError } from './native.js';

/** Every `code` that a {@link LockstepError} can carry. */
export type ErrorCode =
  // The host
  /** There is no /dev/kvm. */
  | 'ERR_LOCKSTEP_NO_KVM'
  /** /dev/kvm is there, and this user may not open it. */
  | 'ERR_LOCKSTEP_KVM_PERMISSION'
  /** This kernel's KVM interface is not version 12. */
  | 'ERR_LOCKSTEP_KVM_VERSION'
  /** A KVM call failed. */
  | 'ERR_LOCKSTEP_KVM'
  /** The guest's instruction could not be run by this host's KVM nor by Lockstep. */
  | 'ERR_LOCKSTEP_EMULATION'
  /** The CPU model asked for, or that of the log, does not exist or is more than this CPU can do. */
  | 'ERR_LOCKSTEP_CPU_MODEL'
  /** The host has not enough memory for the guest. */
  | 'ERR_LOCKSTEP_MEMORY'
  /** The host ran out of descriptors, threads or memory. */
  | 'ERR_LOCKSTEP_RESOURCES'
  /** A warning: this kernel cannot confine the machine's threads to the system calls that they need. */
  | 'ERR_LOCKSTEP_SANDBOX'
  /** Another system call failed; see `syscall` and `errno`. */
  | 'ERR_LOCKSTEP_SYSTEM'
  /** The addon is not built, or was built for another Node. */
  | 'ERR_LOCKSTEP_NOT_BUILT'
  /** This user may not make or take the network interface. */
  | 'ERR_LOCKSTEP_NET_PERMISSION'
  /** The host has no /dev/net/tun. */
  | 'ERR_LOCKSTEP_NO_TUN'
  /** Another process has the network interface, or the socket. */
  | 'ERR_LOCKSTEP_NET_BUSY'
  /** The network interface or socket cannot be set up. */
  | 'ERR_LOCKSTEP_NET'
  // Programs and images
  /** The program was found neither on PATH nor as a path. */
  | 'ERR_LOCKSTEP_PROGRAM_NOT_FOUND'
  /** The program is no executable that runs in a machine: not x86-64, not ELF, a library missing, damaged. */
  | 'ERR_LOCKSTEP_PROGRAM_NOT_RUNNABLE'
  /** The bytes are no image, or not the ones that were packed. */
  | 'ERR_LOCKSTEP_NOT_AN_IMAGE'
  /** The image does not fit into the machine's memory. */
  | 'ERR_LOCKSTEP_IMAGE_TOO_LARGE'
  /** A run did not come to the moment up to which it was to be learned. */
  | 'ERR_LOCKSTEP_LEARN'
  /** The log has only its image's hash, and no image was given. */
  | 'ERR_LOCKSTEP_IMAGE_MISSING'
  /** The image given is not the one the log was recorded with. */
  | 'ERR_LOCKSTEP_WRONG_IMAGE'
  // Streams
  /** What was published, or a part of it, comes damaged again and again. */
  | 'ERR_LOCKSTEP_STREAM_DAMAGED'
  /** Nothing to stream from answered in time. */
  | 'ERR_LOCKSTEP_STREAM_UNREACHABLE'
  /** The image that is published there is not the one that was asked for. */
  | 'ERR_LOCKSTEP_STREAM_OTHER'
  /** Another process streams to the same file. */
  | 'ERR_LOCKSTEP_STREAM_BUSY'
  /** This process, or this kernel, cannot fill memory while it is used: userfaultfd is not to be had. */
  | 'ERR_LOCKSTEP_USERFAULTFD'
  /** This part of the machine's memory is still on its way. */
  | 'ERR_LOCKSTEP_NOT_ARRIVED'
  // Logs
  /** The file is no log. */
  | 'ERR_LOCKSTEP_NOT_A_LOG'
  /** The log was written by a version that this one cannot read. */
  | 'ERR_LOCKSTEP_LOG_VERSION'
  /** A checksum or the contents are wrong; the message names the offset. */
  | 'ERR_LOCKSTEP_LOG_DAMAGED'
  /** The log exists already, and `force` was not given. */
  | 'ERR_LOCKSTEP_LOG_EXISTS'
  /** The log cannot be opened or read. */
  | 'ERR_LOCKSTEP_LOG_READ'
  /** The log cannot be created or written. */
  | 'ERR_LOCKSTEP_LOG_WRITE'
  /** The disk, or the quota, is full. */
  | 'ERR_LOCKSTEP_DISK_FULL'
  /** A machine's saved state, sent or recorded, is damaged or gives another machine. */
  | 'ERR_LOCKSTEP_STATE_DAMAGED'
  /** The replay went another way than the recording: a {@link DivergenceError}. */
  | 'ERR_LOCKSTEP_DIVERGED'
  // Pairs
  /** An address is not `unix:/path` or `tcp:host:port`. */
  | 'ERR_LOCKSTEP_ADDRESS_INVALID'
  /** Something listens at the address already. */
  | 'ERR_LOCKSTEP_ADDRESS_IN_USE'
  /** The address cannot be listened at. */
  | 'ERR_LOCKSTEP_LISTEN'
  /** The other side could not be reached in time. */
  | 'ERR_LOCKSTEP_LINK_UNREACHABLE'
  /** The other side was reached and wants no shadow, or no longer. */
  | 'ERR_LOCKSTEP_LINK_REFUSED'
  /** A TCP link outside this host was asked for without saying that it may be in the clear. */
  | 'ERR_LOCKSTEP_INSECURE_LINK'
  /** The other side of a TLS connection is none to talk to, or this side's keys cannot be used. */
  | 'ERR_LOCKSTEP_TLS'
  /** Keys would be overwritten. */
  | 'ERR_LOCKSTEP_KEYS_EXIST'
  /** What came over the link fails its checksum. */
  | 'ERR_LOCKSTEP_LINK_DAMAGED'
  /** What came over the link is no message of the protocol. */
  | 'ERR_LOCKSTEP_LINK_MESSAGE'
  /** The two sides speak different versions of the link's protocol. */
  | 'ERR_LOCKSTEP_LINK_VERSION'
  /** The other side belongs to another pair. */
  | 'ERR_LOCKSTEP_OTHER_PAIR'
  /** A pair's id is not 32 hexadecimal digits. */
  | 'ERR_LOCKSTEP_PAIR_ID'
  /** The pair's id is known to the arbiter already. */
  | 'ERR_LOCKSTEP_PAIR_EXISTS'
  /** The arbiter's directory cannot be used. */
  | 'ERR_LOCKSTEP_ARBITER'
  /** The arbiter does not answer. */
  | 'ERR_LOCKSTEP_ARBITER_UNREACHABLE'
  /** What came over the console's socket is no message of its protocol. */
  | 'ERR_LOCKSTEP_CONSOLE_PROTOCOL'
  /** Console client and pair speak different versions. */
  | 'ERR_LOCKSTEP_CONSOLE_VERSION'
  /** Another console client took this one's place. */
  | 'ERR_LOCKSTEP_CONSOLE_REPLACED'
  /** No side of the pair answered in time. */
  | 'ERR_LOCKSTEP_CONSOLE_UNREACHABLE'
  /** Output that was repeated after a takeover is not what it was before. */
  | 'ERR_LOCKSTEP_CONSOLE_MISMATCH'
  // Use
  /** An option or an argument is wrong. */
  | 'ERR_LOCKSTEP_INVALID_ARGUMENT'
  /** The same, found by the addon. */
  | 'ERR_LOCKSTEP_ARGUMENT'
  /** A guest-physical address is outside the machine's memory. */
  | 'ERR_LOCKSTEP_ADDRESS'
  /** Not possible in the machine's present state. */
  | 'ERR_LOCKSTEP_STATE'
  /** The machine must stand still for this. */
  | 'ERR_LOCKSTEP_RUNNING'
  /** The shadow has no machine yet. */
  | 'ERR_LOCKSTEP_NOT_STARTED'
  /** The machine is closed. */
  | 'ERR_LOCKSTEP_CLOSED'
  /** Not possible with a machine that is recorded: the log would not know of it. */
  | 'ERR_LOCKSTEP_RECORDED'
  /** The host has no random bytes to give. */
  | 'ERR_LOCKSTEP_RANDOM'
  /** A file of the guest cannot be read; `errno` tells why. */
  | 'ERR_LOCKSTEP_GUEST_FILE'
  /** A defect of Lockstep. Please report it. */
  | 'ERR_LOCKSTEP_INTERNAL';

export interface LockstepErrorOptions {
  /** What to do about it. */
  hint?: string | undefined;
  cause?: unknown;
  /** The error number of the system call that failed. */
  errno?: number | undefined;
  /** The system call, or KVM operation, that failed. */
  syscall?: string | undefined;
}

/** The one error of this library. */
export class LockstepError extends Error {
  override readonly name: string = 'LockstepError';
  /** For programs; `message` is for people. */
  readonly code: ErrorCode;
  /** What to do about it, where that is known. */
  readonly hint?: string;
  /** Set where a system call failed. */
  readonly errno?: number;
  /** Set where a system call failed. */
  readonly syscall?: string;

  constructor(code: ErrorCode, message: string, options: LockstepErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    if (options.hint) this.hint = options.hint;
    if (options.errno) this.errno = options.errno;
    if (options.syscall) this.syscall = options.syscall;
  }
}

/** Where and how a replay went another way than the recording. */
export interface Divergence {
  /** The event (LSN) at which it showed. */
  event: number;
  /** What differs. */
  kind: 'access' | 'register' | 'device' | 'memory' | 'output' | 'end';
  /** The register, page, device or access. */
  where: string;
  expected: string;
  actual: string;
  /** The events just before, newest last, one line each. */
  before: string[];
}

/** A replay, or a shadow, went another way than the recording. */
export class DivergenceError extends LockstepError {
  override readonly name = 'DivergenceError';
  readonly divergence: Divergence;

  constructor(divergence: NativeDivergence, detail: string) {
    const { event, where, expected, actual } = divergence;
    const message = detail || `event ${event}: ${where} is ${actual}, and was ${expected} when recorded`;
    super('ERR_LOCKSTEP_DIVERGED', message, {
      hint: 'Look at `lockstep log events` around this event, and at the instructions the image lists as left.',
    });
    this.divergence = divergence;
  }
}

function isNativeError(error: unknown): error is Error & Partial<NativeError> & { code: ErrorCode } {
  return (
    error instanceof Error &&
    'code' in error &&
    typeof error.code === 'string' &&
    error.code.startsWith('ERR_LOCKSTEP_')
  );
}

/** What the addon threw, as what this library throws; anything else is passed on as it is. */
export function fromNative(error: unknown): unknown {
  if (error instanceof LockstepError || !isNativeError(error)) return error;
  return new LockstepError(error.code, error.message, {
    hint: error.hint,
    errno: error.errno,
    syscall: error.operation,
  });
}

/** The same for a failure that arrived as a notice. */
export function fromNotice(error: NativeError): LockstepError {
  return new LockstepError(error.code as ErrorCode, error.message, {
    hint: error.hint,
    errno: error.errno,
    syscall: error.operation,
  });
}

/** Runs `call`, turning what the addon throws into {@link LockstepError}. */
export function guarded<T>(call: () => T): T {
  try {
    const result = call();
    if (!(result instanceof Promise)) return result;
    return result.catch((error: unknown) => {
      throw fromNative(error);
    }) as T;
  } catch (error) {
    throw fromNative(error);
  }
}
