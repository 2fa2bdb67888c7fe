/**
 * How an image gets to the host that starts from it: PUT /images/SHA256 over TLS, with a side's certificate. A shadow
 * needs none, because it gets the image over its link.
 */
import { createWriteStream, existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http';
import { createServer as createSecureServer, request as secureRequest } from 'node:https';
import { join } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { TLSSocket } from 'node:tls';
import { LockstepError } from '../errors.js';
import { Image } from '../image.js';
import type { TlsOptions } from '../tls.js';

/** What a certificate must be good for to be a side's: a console's is not. */
const SERVER_PURPOSE = '1.3.6.1.5.5.7.3.1';
const IMAGE_BYTES_MAX = 4 * 2 ** 30;
const SEND_MS = 120_000;

export class ImageServer {
  readonly #directory: string;
  readonly #server: Server;
  readonly #secure: boolean;

  private constructor(directory: string, tls: TlsOptions | undefined) {
    this.#directory = directory;
    this.#secure = tls !== undefined;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const answer = (message: IncomingMessage, response: ServerResponse) => {
      this.#answer(message, response).catch((error: Error) => {
        // What is left of the image is not read: the connection is of no more use.
        if (!response.headersSent) response.writeHead(400, { connection: 'close' });
        response.end(`${error.message}\n`);
      });
    };
    this.#server = tls
      ? createSecureServer(
          { ...tls, requestCert: true, rejectUnauthorized: true, minVersion: 'TLSv1.3' },
          answer,
        )
      : createServer(answer);
  }

  static async listen(
    directory: string,
    address: string,
    port: number,
    tls: TlsOptions | undefined,
  ): Promise<ImageServer> {
    const server = new ImageServer(directory, tls);
    await new Promise<void>((resolve, reject) => {
      server.#server.once('error', (cause: NodeJS.ErrnoException) => {
        const taken = cause.code === 'EADDRINUSE';
        reject(
          new LockstepError(
            taken ? 'ERR_LOCKSTEP_ADDRESS_IN_USE' : 'ERR_LOCKSTEP_LISTEN',
            `this host cannot listen at ${address}:${port}: ${cause.message}`,
            { cause, hint: 'Is --address one of this host, and --ports free? Another host may run here.' },
          ),
        );
      });
      server.#server.listen(port, address, resolve);
    });
    server.#server.unref();
    return server;
  }

  url(address: string, port: number): string {
    return `${this.#secure ? 'https' : 'http'}://${address}:${port}`;
  }

  /** Where the image is; undefined when it is not here. */
  path(sha256: string): string | undefined {
    const path = join(this.#directory, sha256);
    return /^[0-9a-f]{64}$/.test(sha256) && existsSync(path) ? path : undefined;
  }

  /** Images that no machine here starts from any more. */
  forget(sha256: string): void {
    const path = this.path(sha256);
    if (path !== undefined) rmSync(path, { force: true });
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #answer(message: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method, url = '', socket } = message;
    if (this.#secure) {
      const { ext_key_usage: purposes = [] } = (socket as TLSSocket).getPeerCertificate();
      if (!purposes.includes(SERVER_PURPOSE)) throw new Error("this is no side's certificate");
    }
    const sha256 = /^\/images\/([0-9a-f]{64})$/.exec(url)?.[1];
    if (sha256 === undefined || (method !== 'PUT' && method !== 'HEAD')) {
      response.writeHead(404).end();
    } else if (method === 'HEAD') {
      response.writeHead(this.path(sha256) === undefined ? 404 : 200).end();
    } else {
      await this.#take(sha256, message);
      response.writeHead(201).end();
    }
  }

  /** Whole and what it should be, or not at all. */
  async #take(sha256: string, message: IncomingMessage): Promise<void> {
    let bytes = 0;
    const check = new Transform({
      transform(chunk: Buffer, _, done) {
        bytes += chunk.length;
        done(bytes > IMAGE_BYTES_MAX ? new Error('an image cannot be as large') : null, chunk);
      },
    });
    const part = join(this.#directory, `${sha256}.${process.hrtime.bigint()}.part`);
    try {
      await pipeline(message, check, createWriteStream(part, { mode: 0o600, flags: 'wx' }));
      const { sha256: found } = await (await Image.open(part)).verify();
      if (found !== sha256) throw new Error('this is another image');
      renameSync(part, join(this.#directory, sha256));
    } finally {
      rmSync(part, { force: true });
    }
  }
}

/** Brings the image to a host, where it is not there yet. Rejects with what went wrong. */
export async function sendImage(
  url: string,
  sha256: string,
  bytes: Uint8Array,
  tls: TlsOptions | undefined,
  signal?: AbortSignal,
): Promise<void> {
  const secure = url.startsWith('https:');
  if (secure && !tls)
    throw new LockstepError('ERR_LOCKSTEP_TLS', `the host at ${url} wants TLS`, {
      hint: 'Give --tls DIR, with the keys that the hosts have.',
    });
  const ask = (method: 'HEAD' | 'PUT', body?: Uint8Array) =>
    new Promise<{ status: number; text: string }>((resolve, reject) => {
      // Certificates carry a purpose instead of a name.
      const names = { checkServerIdentity: () => undefined, minVersion: 'TLSv1.3' as const };
      const options = { method, signal, timeout: SEND_MS, agent: false as const };
      const target = `${url}/images/${sha256}`;
      const sent = secure
        ? secureRequest(target, { ...options, ...tls, ...names })
        : request(target, options);
      sent.on('response', (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk) => {
          text += chunk;
        });
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text: text.trim() }));
        response.on('error', reject);
      });
      sent.on('timeout', () => sent.destroy(new Error('it does not answer')));
      sent.on('error', reject);
      sent.end(body);
    });
  try {
    if ((await ask('HEAD')).status === 200) return;
    const { status, text } = await ask('PUT', bytes);
    if (status !== 201) throw new Error(text || `it answers ${status}`);
  } catch (cause) {
    if (signal?.aborted) throw cause;
    throw new LockstepError(
      'ERR_LOCKSTEP_SYSTEM',
      `the host at ${url} does not take the image: ${(cause as Error).message}`,
      { cause },
    );
  }
}
