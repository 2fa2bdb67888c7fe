import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { reset } from './reset.js';

/** Stands between the two sides of a TCP link, and forgets a connection now and then, as a firewall does. */
export class TcpRelay {
  readonly #server: Server;
  readonly #pairs = new Set<readonly [Socket, Socket]>();
  /** How many connections were reset so far. */
  resets = 0;
  /** Every byte that passes. */
  heard?: (bytes: Buffer) => void;

  /** Before a side that listens at `tcp:127.0.0.1:PORT`. */
  static async before(address: string): Promise<TcpRelay> {
    const relay = new TcpRelay(Number(address.split(':').at(-1)));
    await once(relay.#server.listen(0, '127.0.0.1'), 'listening');
    return relay;
  }

  private constructor(port: number) {
    this.#server = createServer((near) => {
      const far = connect(port, '127.0.0.1');
      const pair = [near, far] as const;
      this.#pairs.add(pair);
      const forget = () => this.#forget(pair);
      for (const [from, to] of [pair, [far, near] as const]) {
        from.on('data', (bytes) => this.heard?.(bytes));
        from.on('error', forget);
        from.pipe(to);
        from.on('close', () => this.#pairs.delete(pair));
      }
    });
  }

  get address(): string {
    return `tcp:127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Both ends get a reset; what was on its way is lost. */
  reset(): void {
    this.resets += this.#pairs.size;
    for (const pair of this.#pairs) this.#forget(pair);
  }

  close(): void {
    this.#server.close();
    this.reset();
  }

  #forget(pair: readonly [Socket, Socket]): void {
    for (const socket of pair) reset(socket);
    this.#pairs.delete(pair);
  }
}
