/** etcd as hosts and keepers use it: one picture of all, compare-and-set, leases, and a bell that rings on changes. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Etcd3, Watcher } from 'etcd3';
import { checkEndpoint, type EtcdOptions, etcdUnreachable } from '../arbiter-etcd.js';
import { withSignal } from '../deferred.js';
import { LockstepError } from '../errors.js';
import type { Endpoint } from '../etcd-endpoint.js';
import { invalid } from '../options.js';
import { type ClusterView, viewOf } from './records.js';

const TIMEOUT_MS = 2000;
/** What a server may take to end a watch. */
const UNWATCH_MS = 500;

export interface Change {
  /** Commit only when these keys have these values; undefined: are not there. */
  when?: [key: string, value: string | undefined][];
  put?: [key: string, value: string, lease?: string][];
  remove?: string[];
  /** All keys that begin so. */
  removeAll?: string[];
}

/** Rings when something has changed, or may have. */
export class Bell {
  #rung = false;
  #wake = () => {};

  ring(): void {
    this.#rung = true;
    this.#wake();
  }

  /** Until it rings, or has rung since the last call; at most `ms`. */
  async heard(ms: number, signal?: AbortSignal): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const woken = new Promise<void>((resolve) => {
      this.#wake = resolve;
      timer = setTimeout(resolve, ms);
      if (this.#rung) resolve();
    });
    try {
      await withSignal(woken, signal).catch(() => {});
    } finally {
      clearTimeout(timer);
      this.#rung = false;
    }
  }
}

/** Asks one server after the other: what is asked here is not in a hurry, and must not be done twice. */
export class Store {
  readonly bell = new Bell();
  readonly #endpoints: Endpoint[];
  readonly #prefix: string;
  readonly #timeoutMs: number;
  #watched: Etcd3 | undefined;
  #watcher: Watcher | undefined;
  #closed = false;

  /** Rejects when etcd does not answer within `connectMs`. */
  static async open(options: EtcdOptions, connectMs = 5000): Promise<Store> {
    const { endpoints, prefix = 'lockstep/', timeoutMs = TIMEOUT_MS, tls: credentials, auth } = options;
    if (endpoints.length === 0) throw invalid('no etcd server was given');
    endpoints.forEach(checkEndpoint);
    const { Endpoint } = await import('../etcd-endpoint.js');
    const each = endpoints.map((address) => new Endpoint(address, { timeoutMs, credentials, auth }));
    const store = new Store(each, prefix, timeoutMs);
    let last: unknown;
    for (const begun = performance.now(); performance.now() - begun < connectMs; ) {
      try {
        await store.view();
        return store;
      } catch (error) {
        last = error;
        await new Promise((again) => setTimeout(again, 200));
      }
    }
    store.close();
    throw last;
  }

  private constructor(endpoints: Endpoint[], prefix: string, timeoutMs: number) {
    this.#endpoints = endpoints;
    this.#timeoutMs = timeoutMs;
    this.#prefix = prefix;
  }

  async view(): Promise<ClusterView> {
    // The keys of pairs, which stay, lie behind these.
    const [start, end] = [`${this.#prefix}hosts/`, `${this.#prefix}machines0`];
    const found = await this.#ask(async (client) => {
      this.#watch(client, start, end);
      return await client.getAll().inRange({ start, end }).strings();
    });
    const bare = (key: string) => key.slice(this.#prefix.length);
    const ours = Object.entries(found).map(([key, value]): [string, string] => [bare(key), value]);
    return viewOf(ours.filter(([key]) => /^(hosts|machines)\//.test(key)));
  }

  /** False when a condition does not hold. Whoever gets no answer looks at what is there. */
  async commit({ when = [], put = [], remove = [], removeAll = [] }: Change): Promise<boolean> {
    const name = (key: string) => `${this.#prefix}${key}`;
    return await this.#ask(async (client) => {
      const operations = [
        ...put.map(([key, value, lease]) => {
          const one = client.put(name(key)).value(value);
          return lease === undefined ? one : one.lease(lease);
        }),
        ...remove.map((key) => client.delete().key(name(key))),
        ...removeAll.map((start) => client.delete().prefix(name(start))),
      ];
      // etcd wants a condition: this one holds.
      let comparison = client.if(name('never'), 'Create', '==', 0);
      for (const [key, value] of when)
        comparison =
          value === undefined
            ? comparison.and(name(key), 'Create', '==', 0)
            : comparison.and(name(key), 'Value', '==', value);
      const { succeeded } = await comparison.then(...operations).commit();
      return succeeded;
    });
  }

  /** What is put under it is gone when it is not kept alive for so long. */
  async grant(seconds: number): Promise<string> {
    return await this.#ask(async (client) => (await client.leaseClient.leaseGrant({ TTL: seconds })).ID);
  }

  /** False when it is over. */
  async keepAlive(lease: string): Promise<boolean> {
    return await this.#ask(async (client) => {
      const stream = await client.leaseClient.leaseKeepAlive();
      try {
        const answer = new Promise<boolean>((resolve, reject) => {
          stream.on('data', ({ TTL }) => resolve(Number(TTL) > 0));
          stream.on('error', reject);
        });
        stream.write({ ID: lease });
        return await answer;
      } finally {
        stream.end();
      }
    });
  }

  async revoke(lease: string): Promise<void> {
    await this.#ask((client) => client.leaseClient.leaseRevoke({ ID: lease }));
  }

  close(): void {
    this.#closed = true;
    const close = () => {
      for (const endpoint of this.#endpoints) endpoint.close();
    };
    void this.#unwatch().then(close, close);
  }

  async #ask<T>(request: (client: Etcd3) => Promise<T>): Promise<T> {
    let last: unknown;
    for (const endpoint of [...this.#endpoints]) {
      if (this.#closed) break;
      try {
        return await endpoint.ask(request);
      } catch (error) {
        last = error;
        // The next question goes to another one first.
        this.#endpoints.push(this.#endpoints.shift() as Endpoint);
      }
    }
    if (this.#closed) throw new LockstepError('ERR_LOCKSTEP_CLOSED', 'the connection to etcd is closed');
    const addresses = this.#endpoints.map(({ address }) => address);
    throw etcdUnreachable(addresses, this.#timeoutMs, last instanceof Error ? last.message : String(last));
  }

  /** Only rings: what changed is looked at, and so nothing is missed when a watch is. */
  #watch(client: Etcd3, start: string, end: string): void {
    if (this.#watched === client || this.#closed) return;
    void this.#unwatch();
    this.#watched = client;
    const over = () => {
      if (this.#watched === client) this.#watched = undefined;
    };
    // Not create(), which would leave nobody to end a watch that does not stand yet.
    const watcher = client.watch().inRange({ start, end }).watcher();
    this.#watcher = watcher;
    watcher.on('data', () => this.bell.ring());
    watcher.on('connected', () => this.bell.ring());
    watcher.on('error', over);
    watcher.on('end', over);
  }

  /** A watch that nobody ends is made anew for ever, with a client that is closed, too, and holds the process. */
  async #unwatch(): Promise<void> {
    const watcher = this.#watcher;
    this.#watcher = undefined;
    const late = sleep(UNWATCH_MS, undefined, { ref: false });
    await Promise.race([watcher?.cancel(), late]).catch(() => {});
  }
}
