/** Where published files are fetched from: a web server, or a directory. */
import { createReadStream } from 'node:fs';
import { type Agent, Agent as HttpAgent, type IncomingMessage, request } from 'node:http';
import { Agent as HttpsAgent, request as secureRequest } from 'node:https';
import { basename } from 'node:path';
import { pathToFileURL } from 'node:url';
import { invalid } from '../options.js';

/** A file's bytes from `start` on. */
export interface Piece {
  start: number;
  /** All of it was sent, because the server knows no ranges. */
  whole: boolean;
  body: AsyncIterable<Uint8Array>;
}

export interface ByteRange {
  start: number;
  /** Exclusive. */
  end: number;
}

const REDIRECTS_MAX = 5;

export class Source {
  /** As a person knows it. */
  readonly name: string;
  readonly #manifest: URL;
  readonly #stallMs: number;
  readonly #agent: Agent | undefined;

  /** `address`: of the manifest; http:, https:, file:, or a path. Throws ERR_LOCKSTEP_INVALID_ARGUMENT. */
  constructor(address: string, stallMs: number) {
    this.#manifest = parseAddress(address);
    this.#stallMs = stallMs;
    this.name = this.#manifest.protocol === 'file:' ? this.#manifest.pathname : this.#manifest.href;
    const keep = { keepAlive: true };
    if (this.#manifest.protocol === 'http:') this.#agent = new HttpAgent(keep);
    if (this.#manifest.protocol === 'https:') this.#agent = new HttpsAgent(keep);
  }

  /** The manifest's file name. */
  get file(): string {
    return decodeURIComponent(basename(this.#manifest.pathname));
  }

  /** The manifest itself. */
  openManifest(signal: AbortSignal): Promise<Piece> {
    return this.#open(this.#manifest, undefined, signal);
  }

  /** A file beside it. Rejects with what went wrong, for people. */
  open(path: string, range: ByteRange, signal: AbortSignal): Promise<Piece> {
    return this.#open(new URL(path, this.#manifest), range, signal);
  }

  close(): void {
    this.#agent?.destroy();
  }

  async #open(url: URL, range: ByteRange | undefined, signal: AbortSignal): Promise<Piece> {
    if (url.protocol === 'file:') {
      const options = range ? { start: range.start, end: range.end - 1, signal } : { signal };
      return { start: range?.start ?? 0, whole: false, body: createReadStream(url, options) };
    }
    let at = url;
    for (let redirects = 0; redirects <= REDIRECTS_MAX; redirects++) {
      const response = await this.#ask(at, range, signal);
      const { statusCode = 0, headers } = response;
      if (statusCode === 200) return { start: 0, whole: true, body: response };
      if (statusCode === 206)
        return { start: startOf(headers['content-range']), whole: false, body: response };
      response.destroy();
      if (statusCode < 300 || statusCode >= 400 || headers.location === undefined)
        throw new Error(`it answers ${statusCode} for ${at.pathname}`);
      at = new URL(headers.location, at);
    }
    throw new Error('it sends us from one address to another');
  }

  #ask(url: URL, range: ByteRange | undefined, signal: AbortSignal): Promise<IncomingMessage> {
    const secure = url.protocol === 'https:';
    if (!secure && url.protocol !== 'http:') throw new Error(`it sends us to ${url.href}`);
    // A redirection may lead to the other kind of server.
    const agent = url.protocol === this.#manifest.protocol ? this.#agent : undefined;
    const headers = {
      'accept-encoding': 'identity',
      ...(range && { range: `bytes=${range.start}-${range.end - 1}` }),
    };
    return new Promise((resolve, reject) => {
      const sent = (secure ? secureRequest : request)(url, {
        agent,
        headers,
        signal,
        timeout: this.#stallMs,
      });
      sent.on('timeout', () => sent.destroy(new Error(`nothing came for ${this.#stallMs} ms`)));
      sent.on('response', resolve);
      sent.on('error', reject);
      sent.end();
    });
  }
}

function startOf(contentRange: string | undefined): number {
  const [, start] = /^bytes (\d+)-/.exec(contentRange ?? '') ?? [];
  if (start === undefined) throw new Error('it answers with a range that cannot be read');
  return Number(start);
}

function parseAddress(address: string): URL {
  if (!/^[a-z][a-z0-9+.-]*:\/\//i.test(address)) return pathToFileURL(address);
  const url = URL.canParse(address) ? new URL(address) : undefined;
  if (url && ['http:', 'https:', 'file:'].includes(url.protocol)) return url;
  throw invalid(`${address} is no address to stream from`, 'Give http:, https: or file:, or a path.');
}
