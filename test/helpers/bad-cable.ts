/**
 * Two network namespaces with a bad cable (native/test/relay.cc) between them. On the near side is a machine's card,
 * or, for comparison, the host's own stack with the machine's address; on the far side is the host's stack.
 * All of it is gone when the cable is, or when this process is.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { root } from './command.js';
import { Namespace, run } from './namespace.js';

const relay = join(root, 'build/Release/relay');

/** One value, or one for what the near side sends and one for what the far side sends. */
type Both = number | [near: number, far: number];

export interface Vices {
  seed: number;
  /** Probabilities. */
  loss?: Both;
  duplicate?: Both;
  reorder?: Both;
  delayMs?: Both;
  /** Who is reordered comes later by up to so much. */
  reorderMs?: Both;
  /** A line so slow, before which so much may queue. */
  kbitS?: Both;
  queueKb?: Both;
}

export interface Carried {
  frames: number;
  bytes: number;
  lost: number;
  duplicated: number;
  reordered: number;
  overflowed: number;
}

export const NEAR = '10.0.2.15';
export const FAR = '10.0.2.2';
/** The machine's end: what `--net` takes. */
export const CARD = 'card';

export class BadCable {
  private constructor(
    readonly near: Namespace,
    readonly far: Namespace,
    readonly relay: ChildProcess,
  ) {}

  /** @param congestion what the host's stack does about it, on both sides; without it, what the host is set to. */
  static async lay(kind: 'machine' | 'host', vices: Vices, congestion?: string): Promise<BadCable> {
    if (!existsSync(relay)) throw new Error(`${relay} is missing: node scripts/build-addon.mjs --core-tests`);
    const near = await Namespace.make();
    const far = await Namespace.make();
    const tap = ['ip', 'tuntap', 'add', 'dev', CARD, 'mode', 'tap'];
    if (kind === 'machine') {
      await run(near.inside(tap));
      await run(near.inside(['ip', 'link', 'set', CARD, 'up']));
    }
    const options = Object.entries(vices).flatMap(([name, value]) => [
      `--${name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`,
      String(value),
    ]);
    const nearEnd = `${kind === 'machine' ? 'packet' : 'tap'}:${CARD}@${near.path}`;
    const child = spawn(relay, [...options, nearEnd, `tap:far@${far.path}`], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    await Promise.race([
      once(child.stdout, 'data'),
      once(child, 'close').then(([status]) => {
        throw new Error(`the relay ended with ${status}`);
      }),
    ]);
    const ends: [Namespace, string, string][] = [[far, 'far', FAR]];
    if (kind === 'host') ends.push([near, CARD, NEAR]);
    for (const [side, name, address] of ends) {
      await run(side.inside(['ip', 'address', 'add', `${address}/24`, 'dev', name]));
      await run(side.inside(['ip', 'link', 'set', name, 'up']));
      const route = ['ip', 'route', 'replace', '10.0.2.0/24', 'dev', name, 'src', address];
      if (congestion) await run(side.inside([...route, 'congctl', congestion]));
    }
    return new BadCable(near, far, child);
  }

  /** From now on, in both directions; 0: as fast as it goes. */
  throttle(kbitS: number): void {
    this.relay.stdin?.write(`--kbit-s ${kbitS}\n`);
  }

  /** TCP connections that there are carry nothing any more; new ones do. */
  forget(): void {
    this.relay.stdin?.write('--forget 1\n');
  }

  /** Takes it all away. @returns what went from near to far, and from far to near. */
  async cut(): Promise<[Carried, Carried]> {
    const lines = createInterface({ input: this.relay.stdout as NodeJS.ReadableStream });
    const said = once(lines, 'line');
    this.relay.stdin?.end();
    const [line] = await said;
    await this.near.remove();
    await this.far.remove();
    return JSON.parse(line);
  }
}
