// A process that is out of its pair, while the machine goes on elsewhere, starts over as a shadow of whoever is live.
import { existsSync, renameSync } from 'node:fs';
import type { PairEnd } from '../end-marks.js';
import { DivergenceError, type ErrorCode, LockstepError } from '../errors.js';
import type { Ended } from '../events.js';
import type { PairOptions } from '../pair-side.js';
import { Shadow, type ShadowOptions } from '../shadow.js';
import type { GuestFlags, LogFlags, PairFlags } from './options.js';

/** One life as a side: how it ended, and how far it had come. */
export interface Life {
  status: number;
  ended?: Ended;
  error?: unknown;
  /** It was told to end. */
  asked: boolean;
  /** It had met the other side. */
  connected: boolean;
  /** Whose side it was, once that is known. */
  pairId?: string;
  /** When it became one that could go on in the other's place, or was live, by performance.now(). */
  armedAt?: number;
  /** It wrote to its log. */
  logged: boolean;
}

const BACKOFF_MIN_MS = 200;
const BACKOFF_MAX_MS = 10_000;
/** Who stood by for so long is not tried ever less often. */
const STEADY_MS = 60_000;
/** For one try: between tries there is a pause, so that who is away is not asked all the time. */
const CONNECT_MS = 1000;

/** What goes away by itself when the other side, or the arbiter, is there again. */
const PASSES: ReadonlySet<ErrorCode> = new Set([
  'ERR_LOCKSTEP_LINK_UNREACHABLE',
  'ERR_LOCKSTEP_LINK_REFUSED',
  'ERR_LOCKSTEP_LINK_DAMAGED',
  'ERR_LOCKSTEP_STATE_DAMAGED',
  'ERR_LOCKSTEP_ARBITER_UNREACHABLE',
]);

/** What the next life is told apart from the flags. */
export interface NextLife {
  delayMs: number;
  link: string;
  /** Why, and what became of the log. */
  detail: string;
}

type Flags = Pick<GuestFlags, 'net' | 'sandbox'> & LogFlags & PairFlags & { pair?: string };

export class Rejoin {
  readonly #flags: Flags;
  readonly #pair: PairOptions;
  /** Where the live side may be. */
  readonly #links: string[];
  #tries = 0;
  #lives = 0;
  #pairId: string | undefined;
  /** Whether the file at --log is of a life that never could have gone on: it holds nothing of its own. */
  #ownsLog = false;

  /** Of every life to come: but for its link, and read already, because a later life may not read keys any more. */
  constructor(flags: Flags, links: string[], pair: PairOptions) {
    this.#flags = flags;
    this.#pair = pair;
    this.#links = links;
    this.#pairId = flags.pair;
  }

  /** What comes after this life; undefined: nothing, its end is the process's. */
  after(life: Life): NextLife | undefined {
    if (life.asked || !this.#isOut(life)) return undefined;
    this.#lives++;
    this.#pairId = life.pairId ?? this.#pairId;
    if (life.armedAt !== undefined && performance.now() - life.armedAt >= STEADY_MS) this.#tries = 0;
    const delayMs = Math.min(BACKOFF_MIN_MS * 2 ** this.#tries, BACKOFF_MAX_MS);
    const link = this.#links[this.#tries % this.#links.length] as string;
    this.#tries++;
    const kept = this.#keepLog(life);
    const detail = `${why(life)}; looking for the live side at ${link} in ${delayMs} ms`;
    return { delayMs, link, detail: kept ? `${detail}; the log so far is ${kept}` : detail };
  }

  /** The side of the next life; or how the machine ended meanwhile, and nobody is live any more. */
  async shadow({ link }: NextLife): Promise<Shadow | PairEnd> {
    const { log, fsync, net, sandbox } = this.#flags;
    const { arbiter } = this.#pair;
    await arbiter.acquire(CONNECT_MS);
    try {
      const end = this.#pairId === undefined ? undefined : await arbiter.endOf(this.#pairId);
      if (end) return end;
      const options: ShadowOptions = {
        ...this.#pair,
        link,
        pairId: this.#flags.pair,
        connectMs: CONNECT_MS,
        ...{ log, fsync, net, sandbox, force: this.#ownsLog },
      };
      return await Shadow.create(options);
    } finally {
      arbiter.release();
    }
  }

  #isOut({ ended, error, connected }: Life): boolean {
    if (error instanceof DivergenceError) return true;
    if (error instanceof LockstepError) return (connected || this.#lives > 0) && PASSES.has(error.code);
    return ended?.reason === 'fenced';
  }

  /** Moves a log out of the way that may hold what no other does; where to. */
  #keepLog(life: Life): string | undefined {
    const { log } = this.#flags;
    if (log === undefined || !existsSync(log)) return undefined;
    if (life.logged) this.#ownsLog = true;
    if (life.armedAt === undefined) return undefined;
    let number = 1;
    while (existsSync(`${log}.${number}`)) number++;
    renameSync(log, `${log}.${number}`);
    this.#ownsLog = false;
    return `${log}.${number}`;
  }
}

function why({ ended, error }: Life): string {
  if (error instanceof LockstepError) return error.message;
  return ended?.detail || 'out of the pair';
}
