/** Many clients of redis on open connections, each with one request on its way, who remember what was acknowledged. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

export interface ClientsReport {
  acknowledged: number;
  /** Acknowledged writes that the server does not have. */
  missing: number;
  /** What no client of a machine that never failed would see: errors, resets, wrong answers. */
  troubles: string[];
  /** The longest time in which nobody was answered, and the longest that anybody waited. */
  servicePauseMs: number;
  longestWaitMs: number;
}

class Client {
  readonly #socket: Socket;
  readonly #name: string;
  readonly #owner: RedisClients;
  written = 0;
  #expects: ((line: string) => void) | undefined;
  #text = '';

  constructor(socket: Socket, name: string, owner: RedisClients) {
    this.#socket = socket;
    this.#name = name;
    this.#owner = owner;
    socket.setNoDelay(true);
    socket.on('error', (error) => owner.trouble(`${name}: ${error.message}`));
    socket.on('close', () => owner.trouble(`${name}: closed`));
    socket.setEncoding('latin1').on('data', (chunk) => this.#take(String(chunk)));
  }

  #take(chunk: string): void {
    this.#text += chunk;
    for (;;) {
      const end = this.#text.indexOf('\r\n');
      if (end < 0) return;
      const line = this.#text.slice(0, end);
      this.#text = this.#text.slice(end + 2);
      const expects = this.#expects;
      this.#expects = undefined;
      if (expects) expects(line);
      else this.#owner.trouble(`${this.#name}: '${line}' without a question`);
    }
  }

  ask(line: string): Promise<string> {
    return new Promise((resolve) => {
      this.#expects = resolve;
      this.#socket.write(`${line}\r\n`);
    });
  }

  async write(): Promise<void> {
    const key = `${this.#name}:${this.written}`;
    const answer = await this.ask(`SET ${key} ${this.written}`);
    if (answer !== '+OK') this.#owner.trouble(`${key}: '${answer}'`);
    this.written++;
  }

  /** How many of its writes are not there. */
  async missing(): Promise<number> {
    let missing = 0;
    for (let first = 0; first < this.written; first += 500) {
      const count = Math.min(500, this.written - first);
      const keys = Array.from({ length: count }, (_, i) => `${this.#name}:${first + i}`).join(' ');
      missing += count - Number((await this.ask(`EXISTS ${keys}`)).slice(1));
    }
    return missing;
  }

  leave(): void {
    this.#socket.removeAllListeners('close');
    this.#socket.destroy();
  }
}

export class RedisClients {
  readonly #clients: Client[] = [];
  readonly #troubles: string[] = [];
  #loops: Promise<unknown>[] = [];
  #stopping = false;
  #answeredAt = 0;
  #servicePauseMs = 0;
  #longestWaitMs = 0;

  static async connect(host: string, count: number): Promise<RedisClients> {
    const clients = new RedisClients();
    for (let i = 0; i < count; i++) {
      const socket = connect(6379, host);
      await once(socket, 'connect');
      clients.#clients.push(new Client(socket, `client${i}`, clients));
    }
    return clients;
  }

  trouble(what: string): void {
    this.#troubles.push(what);
  }

  /** All of them write, each its next key when the last one was acknowledged. */
  start(): void {
    this.#answeredAt = performance.now();
    const loop = async (client: Client) => {
      while (!this.#stopping) {
        const asked = performance.now();
        await client.write();
        const now = performance.now();
        this.#longestWaitMs = Math.max(this.#longestWaitMs, now - asked);
        this.#servicePauseMs = Math.max(this.#servicePauseMs, now - this.#answeredAt);
        this.#answeredAt = now;
      }
    };
    this.#loops = this.#clients.map(loop);
  }

  get acknowledged(): number {
    return this.#clients.reduce((sum, { written }) => sum + written, 0);
  }

  /** Waits for the last answers and asks for every acknowledged write. */
  async finish(): Promise<ClientsReport> {
    this.#stopping = true;
    await Promise.all(this.#loops);
    let missing = 0;
    for (const client of this.#clients) missing += await client.missing();
    const { acknowledged } = this;
    for (const client of this.#clients) client.leave();
    return {
      acknowledged,
      missing,
      troubles: this.#troubles,
      servicePauseMs: this.#servicePauseMs,
      longestWaitMs: this.#longestWaitMs,
    };
  }
}
