/** A slow line of TCP between a client and a server on this host, that a test may cut or damage. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { reset } from './reset.js';

const TICK_MS = 10;
const QUEUE_BYTES_MAX = 64 * 1024;
export const TEN_MBIT = 1_250_000;

interface Way {
  near: Socket;
  far: Socket;
  queue: Buffer[];
  queued: number;
}

export class ThinLine {
  /** What went through to clients, in bytes. */
  carried = 0;
  /** Changes what passes on its way to a client. */
  damage?: (bytes: Buffer) => void;
  /** Where the server is; who connects next comes there. */
  port: number;
  bytesPerSecond: number;
  readonly #server: Server;
  readonly #ways = new Set<Way>();
  readonly #timer: NodeJS.Timeout;

  private constructor(port: number, bytesPerSecond: number) {
    this.port = port;
    this.bytesPerSecond = bytesPerSecond;
    this.#server = createServer((near) => this.#join(near));
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
  }

  static async open(port: number, bytesPerSecond = TEN_MBIT): Promise<ThinLine> {
    const line = new ThinLine(port, bytesPerSecond);
    line.#server.listen(0, '127.0.0.1');
    await once(line.#server, 'listening');
    return line;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/`;
  }

  /** Breaks what is under way. Who connects again gets through. */
  cut(): void {
    for (const { near, far } of this.#ways) {
      reset(near);
      far.destroy();
    }
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.cut();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #join(near: Socket): void {
    const far = connect(this.port, '127.0.0.1');
    const way: Way = { near, far, queue: [], queued: 0 };
    this.#ways.add(way);
    for (const socket of [near, far]) socket.on('error', () => {});
    near.on('data', (bytes) => far.write(bytes));
    near.on('close', () => {
      far.destroy();
      this.#ways.delete(way);
    });
    far.on('data', (bytes) => {
      way.queue.push(bytes);
      way.queued += bytes.length;
      if (way.queued > QUEUE_BYTES_MAX) far.pause();
    });
    far.on('close', () => {
      // What is queued still goes out, unless the line was cut.
      if (way.queued === 0) near.destroy();
    });
  }

  /** What there is of the line in a tick is shared by those who have something to send. */
  #tick(): void {
    const busy = [...this.#ways].filter(({ queued }) => queued > 0);
    const share = (this.bytesPerSecond * TICK_MS) / 1000 / Math.max(busy.length, 1);
    for (const way of busy) this.#send(way, share);
  }

  #send(way: Way, bytes: number): void {
    for (let left = Math.ceil(bytes); left > 0 && way.queue.length > 0; ) {
      const first = way.queue[0] as Buffer;
      const part = Buffer.from(first.subarray(0, left));
      if (part.length === first.length) way.queue.shift();
      else way.queue[0] = first.subarray(part.length);
      way.queued -= part.length;
      left -= part.length;
      this.damage?.(part);
      this.carried += part.length;
      way.near.write(part);
    }
    if (way.queued > 0) return;
    if (way.far.destroyed) way.near.end();
    else way.far.resume();
  }
}
