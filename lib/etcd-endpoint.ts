/** A connection to one etcd server. The only file that makes clients of etcd3; slow to load, so who needs none must not. */
import { Etcd3 } from 'etcd3';

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

  constructor(address: string, options: EndpointOptions) {
    this.address = address;
    this.#options = options;
  }

  async ask<T>(request: (client: Etcd3) => Promise<T>): Promise<T> {
    const { timeoutMs } = this.#options;
    this.#client ??= this.#connect();
    const client = this.#client;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      const what = `etcd at ${this.address} does not answer within ${timeoutMs} ms`;
      timer = setTimeout(() => reject(new Error(what)), timeoutMs);
    });
    try {
      return await Promise.race([request(client), late]);
    } catch (error) {
      if (this.#client === client) this.close();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  close(): void {
    this.#client?.close();
    this.#client = undefined;
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
      auth,
      dialTimeout: timeoutMs,
      defaultCallOptions: ({ isStream }) => (isStream ? {} : { deadline: Date.now() + timeoutMs }),
      // What decides who lives has no business with a proxy, and a connection that is given up must not live on in a pool.
      grpcOptions: { 'grpc.enable_http_proxy': 0, 'grpc.use_local_subchannel_pool': 1 },
    });
  }
}
