import { randomUUID } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { resolve } from 'node:path';
import { native } from './addon.js';
import { guarded, LockstepError } from './errors.js';

/**
 * Decides, once for each generation of a pair, which side may face the world. A compare-and-set without
 * expiry: no lease, no clock.
 */
export class Arbiter {
  /** How the other side names the same arbiter. */
  readonly address: string;

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
    return new Arbiter(`file:${path}`);
  }

  /** Within this process. The same name finds the same arbiter. */
  static inProcess(name: string = randomUUID()): Arbiter {
    return new Arbiter(`memory:${name}`);
  }

  /** `file:DIRECTORY` or `memory:NAME`. */
  static parse(address: string): Arbiter {
    const [, kind, rest = ''] = /^(file|memory):(.+)$/.exec(address) ?? [];
    if (kind === 'file') return Arbiter.file(rest);
    if (kind === 'memory') return Arbiter.inProcess(rest);
    throw new LockstepError('ERR_LOCKSTEP_INVALID_ARGUMENT', `${address} is no arbiter`, {
      hint: 'Write file:DIRECTORY, a directory that both sides reach.',
    });
  }

  private constructor(address: string) {
    this.address = address;
  }

  /** Asks for a generation. The same claim id asking again gets the same answer. */
  claim(pairId: string, generation: number, claimId: string): 'won' | 'lost' | 'unreachable' {
    return guarded(() => native().arbiterClaim(this.address, pairId, generation, claimId));
  }

  /** Records that this shadow may claim the generation; false when the arbiter cannot be reached. */
  arm(pairId: string, generation: number, shadowId: string): boolean {
    return guarded(() => native().arbiterArm(this.address, pairId, generation, shadowId));
  }

  toString(): string {
    return this.address;
  }
}
