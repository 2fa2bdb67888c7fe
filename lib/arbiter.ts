import { randomUUID } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { resolve } from 'node:path';
import { native } from './addon.js';
import { EtcdClerk, type EtcdOptions } from './arbiter-etcd.js';
import { EndFiles, type EndMarks, EndsHere, isPairId, type PairEnd } from './end-marks.js';
import { guarded, LockstepError } from './errors.js';

/**
 * Decides, once for each generation of a pair, which side may face the world. A compare-and-set without
 * expiry: no lease, no clock.
 */
export class Arbiter {
  /** How the other side names the same arbiter. */
  readonly address: string;

  /** @internal How the core names it. */
  readonly native: string;

  readonly #clerk: EtcdClerk | undefined;
  readonly #ends: EndMarks;

  /** Files in a directory that both sides reach. Made when missing, mode 0700. */
  static file(directory: string): Arbiter {
    const path = resolve(directory);
    try {
      mkdirSync(path, { recursive: true, mode: 0o700 });
    } catch (cause) {
      throw new LockstepError('ERR_LOCKSTEP_ARBITER', `the arbiter's directory ${path} cannot be made`, {
        cause,
      });
    }
    return new Arbiter(`file:${path}`, new EndFiles(path));
  }

  /** Within this process. The same name finds the same arbiter. */
  static inProcess(name: string = randomUUID()): Arbiter {
    return new Arbiter(`memory:${name}`, new EndsHere(name));
  }

  /**
   * An etcd cluster. Asked by a thread of its own, which is there while a side of a pair uses the arbiter; at
   * other times claim() and arm() find it unreachable.
   */
  static etcd(options: EtcdOptions): Arbiter {
    const clerk = new EtcdClerk(options);
    return new Arbiter(`etcd:${options.endpoints.join(',')}`, clerk, clerk);
  }

  /** `file:DIRECTORY`, `memory:NAME` or `etcd:HOST:PORT[,HOST:PORT...]`. */
  static parse(address: string, etcd: Omit<EtcdOptions, 'endpoints'> = {}): Arbiter {
    const [, kind, rest = ''] = /^(file|memory|etcd):(.+)$/.exec(address) ?? [];
    if (kind === 'file') return Arbiter.file(rest);
    if (kind === 'memory') return Arbiter.inProcess(rest);
    if (kind === 'etcd') return Arbiter.etcd({ ...etcd, endpoints: rest.split(',') });
    throw new LockstepError('ERR_LOCKSTEP_INVALID_ARGUMENT', `${address} is no arbiter`, {
      hint: 'Write file:DIRECTORY, a directory that both sides reach, or etcd:HOST:PORT.',
    });
  }

  private constructor(address: string, ends: EndMarks, clerk?: EtcdClerk) {
    this.address = address;
    this.native = clerk ? `remote:${clerk.name}` : address;
    this.#clerk = clerk;
    this.#ends = ends;
  }

  /** @internal Resolves when the arbiter answers; release() goes with each. */
  async acquire(connectMs: number): Promise<void> {
    await this.#clerk?.acquire(connectMs);
  }

  /** @internal */
  release(): void {
    this.#clerk?.release();
  }

  /** Asks for a generation. The same claim id asking again gets the same answer. */
  claim(pairId: string, generation: number, claimId: string): 'won' | 'lost' | 'unreachable' {
    return guarded(() => native().arbiterClaim(this.native, pairId, generation, claimId));
  }

  /** Records that this shadow may claim the generation; false when the arbiter cannot be reached. */
  arm(pairId: string, generation: number, shadowId: string): boolean {
    return guarded(() => native().arbiterArm(this.native, pairId, generation, shadowId));
  }

  /** @internal Writes down that a machine is over, where that can be done: nothing hangs on it but later sides' patience. */
  async recordEnd(pairId: string, { reason, status }: PairEnd): Promise<void> {
    if (isPairId(pairId)) await this.#ends.record(pairId, { reason, status }).catch(() => {});
  }

  /** @internal How the pair's machine ended; undefined when it has not, as far as is known. Rejects when unreachable. */
  async endOf(pairId: string): Promise<PairEnd | undefined> {
    return isPairId(pairId) ? await this.#ends.find(pairId) : undefined;
  }

  toString(): string {
    return this.address;
  }
}
