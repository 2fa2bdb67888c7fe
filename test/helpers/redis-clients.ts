/** Many clients of redis on open connections, each with one request on its way, who remember what was acknowledged. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { monotonicUs } from '../../lib/events.js';
import { parseReply, type Reply } from './redis-reply.js';

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

/** What a failure was to the clients. */
export interface PauseReport {
  /** From the failure to the first answer that the survivor gave to anybody. */
  servicePauseMs: number;
  /** Of each client: how long it waited at most for an answer that came after the failure. */
  waitsMs: number[];
}

/** Keys that are asked for at once. */
const BATCH = 500;

class Client {
  readonly #socket: Socket;
  readonly #name: string;
  readonly #owner: RedisClients;
  written = 0;
  #checked = 0;
  #expects: ((reply: Reply) => void) | undefined;
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
    for (let next = parseReply(this.#text); next; next = parseReply(this.#text)) {
      this.#text = this.#text.slice(next.end);
      const expects = this.#expects;
      this.#expects = undefined;
      if (expects) expects(next.reply);
      else this.#owner.trouble(`${this.#name}: '${next.reply}' without a question`);
    }
  }

  ask(line: string): Promise<Reply> {
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

  /** How many of its writes, from this one on, are not there as they were written. */
  async missing(from = 0): Promise<number> {
    let missing = 0;
    for (let first = from; first < this.written; first += BATCH) {
      const numbers = Array.from({ length: Math.min(BATCH, this.written - first) }, (_, i) => first + i);
      const values = await this.ask(`MGET ${numbers.map((n) => `${this.#name}:${n}`).join(' ')}`);
      missing += numbers.filter((n, i) => (values as Reply[])[i] !== String(n)).length;
    }
    this.#checked = this.written;
    return missing;
  }

  /** Of those that it has not asked for since. */
  recentMissing(): Promise<number> {
    return this.missing(this.#checked);
  }

  leave(): void {
    this.#socket.removeAllListeners('close');
    this.#socket.destroy();
  }
}

interface Answer {
  client: number;
  askedUs: number;
  answeredUs: number;
}

/** All are to ask for what they wrote. */
interface Check {
  wait: number;
  missing: number;
  done: () => void;
}

export class RedisClients {
  readonly #clients: Client[] = [];
  readonly troubles: string[] = [];
  readonly #thinkMs: () => number;
  #loops: Promise<unknown>[] = [];
  #stopping = false;
  #check: Check | undefined;
  #answers: Answer[] | undefined;
  #answeredUs = 0;
  #servicePauseUs = 0;
  #longestWaitUs = 0;

  private constructor(thinkMs: () => number) {
    this.#thinkMs = thinkMs;
  }

  /** `thinkMs`: how long a client waits with its next write. */
  static async connect(host: string, count: number, thinkMs = () => 0): Promise<RedisClients> {
    const clients = new RedisClients(thinkMs);
    for (let i = 0; i < count; i++) {
      const socket = connect(6379, host);
      await once(socket, 'connect');
      clients.#clients.push(new Client(socket, `client${i}`, clients));
    }
    return clients;
  }

  trouble(what: string): void {
    this.troubles.push(what);
  }

  /** All of them write, each its next key when the last one was acknowledged. */
  start(): void {
    this.#answeredUs = monotonicUs();
    this.#loops = this.#clients.map((client, index) => this.#work(client, index));
  }

  async #work(client: Client, index: number): Promise<void> {
    let check: Check | undefined;
    while (!this.#stopping) {
      const askedUs = monotonicUs();
      await client.write();
      this.#answered({ client: index, askedUs, answeredUs: monotonicUs() });
      if (this.#check && this.#check !== check) {
        check = this.#check;
        check.missing += await client.recentMissing();
        if (--check.wait === 0) check.done();
      }
      const thinkMs = this.#thinkMs();
      if (thinkMs > 0) await sleep(thinkMs);
    }
  }

  #answered(answer: Answer): void {
    const { askedUs, answeredUs } = answer;
    this.#longestWaitUs = Math.max(this.#longestWaitUs, answeredUs - askedUs);
    this.#servicePauseUs = Math.max(this.#servicePauseUs, answeredUs - this.#answeredUs);
    this.#answeredUs = answeredUs;
    this.#answers?.push(answer);
  }

  /** From here on every answer is remembered, until {@link pause}. */
  watch(): void {
    this.#answers = [];
  }

  /** Both by CLOCK_MONOTONIC. Resolves when the survivor has answered everybody. */
  async pause(failedUs: number, survivorUs: number): Promise<PauseReport> {
    const answers = this.#answers ?? [];
    const served = () =>
      new Set(answers.filter(({ askedUs }) => askedUs > survivorUs).map(({ client }) => client)).size;
    while (served() < this.#clients.length) await sleep(20);
    this.#answers = undefined;
    const waitsUs = this.#clients.map(() => 0);
    let firstUs = Number.POSITIVE_INFINITY;
    for (const { client, askedUs, answeredUs } of answers) {
      if (answeredUs >= survivorUs) firstUs = Math.min(firstUs, answeredUs);
      if (answeredUs >= failedUs) waitsUs[client] = Math.max(waitsUs[client] as number, answeredUs - askedUs);
    }
    return { servicePauseMs: (firstUs - failedUs) / 1000, waitsMs: waitsUs.map((us) => us / 1000) };
  }

  /** How many of the writes since the last time are missing; asked for between writes, by who wrote them. */
  async recentMissing(): Promise<number> {
    const check: Check = { wait: this.#clients.length, missing: 0, done: () => {} };
    await new Promise<void>((done) => {
      check.done = done;
      this.#check = check;
    });
    return check.missing;
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
    const { acknowledged, troubles } = this;
    for (const client of this.#clients) client.leave();
    return {
      acknowledged,
      missing,
      troubles,
      servicePauseMs: this.#servicePauseUs / 1000,
      longestWaitMs: this.#longestWaitUs / 1000,
    };
  }
}
