/** A connection to one etcd server. The only file that makes clients of etcd3; slow to load, so who needs none must not. */
import { Etcd3 } from 'etcd3';

/** What a server may take to believe a password: it makes that slow on purpose, and slower where it is busy. */
const LOGIN_MS = 3000;

export interface EndpointOptions {
  /** A try ends after this long. */
  timeoutMs: number;
  /** PEM texts. Without it the connection is plain. */
  credentials?: { ca: string; cert?: string; key?: string };
  auth?: { username: string; password: string };
}

/** One server, with a connection that is made anew after each failure: a broken one may take minutes to tell. */
export class Endpoint {
  readonly address: string;
  readonly #options: EndpointOptions;
  #client: Etcd3 | undefined;
  /** Until then a connection that does not answer yet may be logging in, and another would begin anew. */
  #givesUpAt = 0;

  constructor(address: string, options: EndpointOptions) {
    this.address = address;
    this.#options = options;
  }

  /** `toTheEnd`: also of a login, because only then it is known why that fails. */
  async ask<T>(request: (client: Etcd3) => Promise<T>, toTheEnd = false): Promise<T> {
    const client = this.#current();
    const loginMs = toTheEnd ? this.#givesUpAt - performance.now() : 0;
    const limitMs = Math.ceil(Math.max(this.#options.timeoutMs, loginMs));
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      const what = `etcd at ${this.address} does not answer within ${limitMs} ms`;
      timer = setTimeout(() => reject(new Error(what)), limitMs);
    });
    try {
      const answer = await Promise.race([request(client), late]);
      if (this.#client === client) this.#givesUpAt = 0;
      return answer;
    } catch (error) {
      if (this.#client === client && performance.now() >= this.#givesUpAt) this.close();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  close(): void {
    this.#client?.close();
    this.#client = undefined;
  }

  #current(): Etcd3 {
    if (!this.#client) {
      this.#client = this.#connect();
      this.#givesUpAt = this.#options.auth ? performance.now() + LOGIN_MS : 0;
    }
    return this.#client;
  }

  #connect(): Etcd3 {
    const { timeoutMs, credentials, auth } = this.#options;
    return new Etcd3({
      hosts: `${credentials ? 'https' : 'http'}://${this.address}`,
      credentials: credentials && {
        rootCertificate: Buffer.from(credentials.ca),
        certChain: credentials.cert === undefined ? undefined : Buffer.from(credentials.cert),
        privateKey: credentials.key === undefined ? undefined : Buffer.from(credentials.key),
      },
      auth: auth && { ...auth, callOptions: () => ({ deadline: Date.now() + LOGIN_MS }) },
      dialTimeout: timeoutMs,
      defaultCallOptions: ({ isStream }) => (isStream ? {} : { deadline: Date.now() + timeoutMs }),
      // What decides who lives has no business with a proxy, and a connection that is given up must not live on in a pool.
      grpcOptions: { 'grpc.enable_http_proxy': 0, 'grpc.use_local_subchannel_pool': 1 },
    });
  }
}
