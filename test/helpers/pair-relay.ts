import { rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';

/** Hands bytes on between two Unix sockets until a test decides otherwise. */
export class Relay {
  readonly #server: Server;
  readonly #path: string;
  readonly #sockets = new Set<Socket>();
  readonly #orphans = new Set<Socket>();
  #holding = false;
  /** Every byte that came from the far end. */
  protected heard?(connection: number, bytes: Buffer): void;
  /** Whether the far end stays connected when the near one hangs up: what it says then is heard all the same. */
  outlives = false;
  #connections = 0;

  constructor(near: string, far: string) {
    this.#path = near;
    this.#server = createServer((socket) => this.#join(socket, far, this.#connections++)).listen(near);
  }

  /** The cable is cut: both ends see it at once, and nobody connects again. */
  cut(): void {
    this.#server.close();
    rmSync(this.#path, { force: true });
    for (const socket of this.#sockets) socket.destroy();
  }

  /** The cable swallows everything: both ends stay connected, and hear nothing. */
  swallow(): void {
    this.#holding = true;
    this.#server.close();
    rmSync(this.#path, { force: true });
  }

  /** Lets go of far ends that outlived their near ones. */
  hangUp(): void {
    this.outlives = false;
    for (const socket of this.#orphans) socket.destroy();
  }

  #join(near: Socket, far: string, connection: number): void {
    const upstream = connect(far);
    for (const socket of [near, upstream]) {
      this.#sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => this.#sockets.delete(socket));
    }
    const pass = (from: Socket, to: Socket, bytes: Buffer) => {
      if (this.#holding || to.destroyed) return;
      if (!to.write(bytes)) {
        from.pause();
        const go = () => from.resume();
        to.once('drain', go);
        to.once('close', go);
      }
    };
    near.on('data', (bytes) => pass(near, upstream, bytes));
    upstream.on('data', (bytes) => {
      this.heard?.(connection, bytes);
      pass(upstream, near, bytes);
    });
    near.on('close', () => {
      if (this.#holding) return;
      if (this.outlives) this.#orphans.add(upstream);
      else upstream.destroy();
    });
    upstream.on('close', () => {
      if (!this.#holding) near.end(() => near.destroy());
    });
  }
}

/** A run of output bytes that left a side. */
export interface Left {
  channel: number;
  offset: number;
  bytes: Buffer;
}

const OUTPUT = 0x82;

function parseOutput(message: Buffer): Left {
  const offset = Number(message.readBigUInt64LE(6));
  return { channel: message.readUInt8(5), offset, bytes: message.subarray(14) };
}

/**
 * Between a console client and one side: writes down every byte of output that ever leaves the side, also what
 * a client that has moved on to the other side would ignore.
 */
export class ConsoleTap extends Relay {
  readonly #left: Left[] = [];
  readonly #unread = new Map<number, Buffer>();

  protected override heard(connection: number, bytes: Buffer): void {
    let unread = Buffer.concat([this.#unread.get(connection) ?? Buffer.alloc(0), bytes]);
    while (unread.length >= 4 && unread.length >= 4 + unread.readUInt32LE()) {
      const end = 4 + unread.readUInt32LE();
      if (unread.readUInt8(4) === OUTPUT) {
        this.#left.push(parseOutput(unread.subarray(0, end)));
      }
      unread = unread.subarray(end);
    }
    this.#unread.set(connection, unread);
  }

  /** Everything so far, with the messages that broke off in the middle. */
  left(): Left[] {
    const torn = [...this.#unread.values()].filter((bytes) => bytes.length > 14 && bytes[4] === OUTPUT);
    return [...this.#left, ...torn.map(parseOutput)];
  }
}
