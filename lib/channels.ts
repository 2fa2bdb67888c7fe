import { closeSync, openSync } from 'node:fs';
import { Socket } from 'node:net';
import type { Readable, Writable } from 'node:stream';
import { native } from './addon.js';
import { guarded, LockstepError } from './errors.js';
import type { NativeConfig } from './native.js';
import type { ChannelTarget, ConsoleOptions } from './options.js';

/** The descriptors a machine is joined to, and the streams at their other ends. */
export class Channels {
  readonly descriptors: Required<Pick<NativeConfig, 'stdin' | 'stdout' | 'stderr'>>;
  readonly #stdin: Writable | undefined;
  readonly #stdout: Readable | undefined;
  readonly #stderr: Readable | undefined;
  readonly #sockets: Socket[] = [];
  /** Streams that somebody outside has. */
  readonly #taken = new Set<Readable | Writable>();
  /** Close the ends that the machine duplicates, once it has. */
  readonly #lent: (() => void)[] = [];

  constructor({ stdin = 'stream', stdout = 'stream', stderr = 'stream' }: ConsoleOptions) {
    const input = this.#input(stdin);
    const output = this.#output(stdout, 1);
    const error = this.#output(stderr, 2);
    this.descriptors = { stdin: input.fd, stdout: output.fd, stderr: error.fd };
    this.#stdin = input.stream;
    this.#stdout = output.stream;
    this.#stderr = error.stream;
  }

  get stdin(): Writable {
    return this.#take(this.#stdin, 'stdin');
  }

  get stdout(): Readable {
    return this.#take(this.#stdout, 'stdout');
  }

  get stderr(): Readable {
    return this.#take(this.#stderr, 'stderr');
  }

  /** The machine has its duplicates (or was never made): what was lent is closed here. */
  release(): void {
    for (const close of this.#lent.splice(0)) close();
  }

  /** The machine is over: nobody reads its input any more. Its output can still be read to its end. */
  endInput(): void {
    this.#stdin?.destroy();
  }

  /** The machine is closed, or nobody has it any more. Output that somebody has taken can still be read to its end. */
  abandon(): void {
    this.endInput();
    for (const socket of this.#sockets) if (!this.#taken.has(socket)) socket.destroy();
  }

  destroy(): void {
    this.release();
    for (const socket of this.#sockets) socket.destroy();
  }

  ref(): void {
    for (const socket of this.#sockets) socket.ref();
  }

  unref(): void {
    for (const socket of this.#sockets) socket.unref();
  }

  #input(target: ChannelTarget): { fd: number; stream?: Writable } {
    if (target === 'stream') return this.#stream({ readable: false, writable: true });
    if (target === 'inherit') return { fd: 0 };
    if (target !== 'ignore') return { fd: target };
    const fd = openSync('/dev/null', 'r');
    this.#lent.push(() => closeSync(fd));
    return { fd };
  }

  #output(target: ChannelTarget, own: number): { fd: number; stream?: Readable } {
    if (target === 'stream') return this.#stream({ readable: true, writable: false });
    if (target === 'inherit') return { fd: own };
    return { fd: target === 'ignore' ? -1 : target };
  }

  #stream(direction: { readable: boolean; writable: boolean }): { fd: number; stream: Socket } {
    const [ours, theirs] = guarded(() => native().socketPair());
    const stream = new Socket({ fd: ours, allowHalfOpen: true, ...direction });
    // A machine that ends before it has read its input breaks this pipe; `ended` tells, not an 'error'.
    stream.on('error', () => {});
    this.#sockets.push(stream);
    this.#lent.push(() => native().closeDescriptor(theirs));
    return { fd: theirs, stream };
  }

  /** The stream, or why there is none. */
  #take<T extends Readable | Writable>(stream: T | undefined, name: string): T {
    if (!stream) {
      throw new LockstepError('ERR_LOCKSTEP_STATE', `${name} is not a stream of this machine`, {
        hint: `Create it with { ${name}: 'stream' }.`,
      });
    }
    this.#taken.add(stream);
    return stream;
  }
}
