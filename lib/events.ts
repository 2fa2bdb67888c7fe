import type { NativeEnded } from './native.js';

/** What a machine is doing. */
export type MachineState = 'created' | 'running' | 'paused' | 'halted' | 'failed' | 'closed';

/** Why a machine stands still for good. */
export type EndReason = NativeEnded['reason'];

export interface Ended {
  reason: EndReason;
  /** The program's exit status; with `signal`, the signal's number. */
  status: number;
  /** One sentence about a fault or a panic, or ''. */
  detail: string;
}

/** By number, as it stands in logs and on the console's socket. */
export const END_REASONS: readonly EndReason[] = [
  'exited',
  'signal',
  'panic',
  'halted',
  'shutdown',
  'closed',
  'failed',
];

/** Something that is worth knowing and stops nothing. */
export interface Warning {
  code: string;
  detail: string;
}

export interface MachineEvents {
  state: [MachineState];
  warning: [Warning];
}

/** Something happened to a pair. Times by CLOCK_MONOTONIC: comparable across processes of one host. */
export interface PairNotice {
  timeUs: number;
  lsn: number;
  generation: number;
  /** One sentence, or ''. */
  detail: string;
}

/** What {@link Primary} and {@link Shadow} emit. */
export interface PairEvents {
  /** This side listens, for the shadow (primary) or for console clients. */
  listening: [PairNotice];
  /** The link to the other side stands. */
  connected: [PairNotice];
  /** The shadow's state is complete and the arbiter knows it: the pair is protected. */
  armed: [PairNotice];
  'console-connected': [PairNotice];
  'console-lost': [PairNotice];
  /** The other side is silent or gone. */
  suspected: [PairNotice];
  /** This side asks the arbiter for the next generation. */
  claiming: [PairNotice];
  /** The arbiter does not answer: this side stays silent and keeps asking. */
  'arbiter-unreachable': [PairNotice];
  'claim-won': [PairNotice];
  'claim-lost': [PairNotice];
  /** Goes on without a shadow, unprotected. */
  alone: [PairNotice];
  /** The shadow faces the world now. */
  live: [PairNotice];
  /** The first output since going live left this side. */
  'first-output': [PairNotice];
  /** The other side won: this one is over. */
  fenced: [PairNotice];
  /** The shadow went another way and acknowledges no more. */
  diverged: [PairNotice];
  /** The other side's machine ended on purpose. */
  'peer-ended': [PairNotice];
  /** The shadow lags: the primary is being slowed. */
  slowed: [PairNotice];
  /** The shadow lags too far, and the primary goes on without it. */
  dropped: [PairNotice];
  /** A shadow that joined the running machine has got its state; `detail` says how long that took. */
  'state-sent': [PairNotice];
  /** The console has no client, and its oldest output is no longer kept. The log has it. */
  unread: [PairNotice];
  /** The link was reset, and goes on over another connection: nothing is lost, and nobody took over. */
  resumed: [PairNotice];
  /** Live side: a shadow that was joining is lost. Nothing changes: it never stood by. `detail` says why. */
  'join-lost': [PairNotice];
  /** Live side: the program ended, and no console client is there to be told. `detail` says how long one is waited for. */
  unheard: [PairNotice];
  warning: [Warning];
}

/** The names of the events that carry a {@link PairNotice}. */
export type PairNoticeName = Exclude<keyof PairEvents, 'warning'>;

/** CLOCK_MONOTONIC in microseconds. */
export function monotonicUs(): number {
  return Number(process.hrtime.bigint() / 1000n);
}
