/** A static file server with ranges, to try a published directory with. Any other one serves as well. */
import { createReadStream } from 'node:fs';
import { realpath, stat } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo, isIPv6 } from 'node:net';
import { join, resolve, sep } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { LockstepError } from '../errors.js';

export interface ServeOptions {
  /** Default: the loopback. */
  host?: string;
  /** Default: any that is free. */
  port?: number;
}

export interface FileServer extends AsyncDisposable {
  /** Where the directory is, with a slash at its end. */
  url: string;
  /** Breaks off what is under way. */
  close(): Promise<void>;
}

export async function serve(directory: string, options: ServeOptions = {}): Promise<FileServer> {
  const { host = '127.0.0.1', port = 0 } = options;
  const root = await realpath(resolve(directory)).catch((cause: NodeJS.ErrnoException) => {
    throw new LockstepError('ERR_LOCKSTEP_SYSTEM', `cannot serve ${directory}: ${cause.message}`, { cause });
  });
  const server = createServer((request, response) => {
    // A client that goes away in the midst is nobody's failure.
    answer(root, request, response).catch(() => response.destroy());
  });
  await new Promise<void>((listening, failed) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const taken = cause.code === 'EADDRINUSE';
      failed(
        new LockstepError(
          taken ? 'ERR_LOCKSTEP_ADDRESS_IN_USE' : 'ERR_LOCKSTEP_LISTEN',
          `cannot listen at ${host}:${port}: ${cause.message}`,
          { cause, hint: 'Choose another address with --host or --port.' },
        ),
      );
    });
    server.listen(port, host, listening);
  });
  const { port: taken } = server.address() as AddressInfo;
  const close = async () => {
    server.closeAllConnections();
    await new Promise((closed) => server.close(closed));
  };
  return {
    url: `http://${isIPv6(host) ? `[${host}]` : host}:${taken}/`,
    close,
    [Symbol.asyncDispose]: close,
  };
}

async function answer(root: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
  if (request.method !== 'GET' && request.method !== 'HEAD')
    return void response.writeHead(405, { allow: 'GET, HEAD' }).end();
  const path = await findFile(root, request.url ?? '/');
  if (path === undefined) return void response.writeHead(404).end();
  const { size, mtime } = await stat(path);
  const headers = {
    'accept-ranges': 'bytes',
    'content-type': 'application/octet-stream',
    'last-modified': mtime.toUTCString(),
  };
  const range = parseRange(request.headers.range, size);
  if (range === 'unsatisfiable')
    return void response.writeHead(416, { ...headers, 'content-range': `bytes */${size}` }).end();
  const { start, end } = range ?? { start: 0, end: size };
  response.writeHead(range ? 206 : 200, {
    ...headers,
    'content-length': end - start,
    ...(range && { 'content-range': `bytes ${start}-${end - 1}/${size}` }),
  });
  if (request.method === 'HEAD' || start === end) return void response.end();
  await pipeline(createReadStream(path, { start, end: end - 1 }), response);
}

/** A file below the root, also by way of links; undefined where there is none. */
async function findFile(root: string, url: string): Promise<string | undefined> {
  try {
    const name = decodeURIComponent(new URL(url, 'http://server').pathname);
    if (name.includes('\0')) return undefined;
    const path = await realpath(join(root, name));
    if (!path.startsWith(root === sep ? sep : root + sep)) return undefined;
    return (await stat(path)).isFile() ? path : undefined;
  } catch {
    return undefined;
  }
}

/** One range, its end exclusive; undefined for what a server may pass over: no range, or several. */
export function parseRange(
  header: string | undefined,
  size: number,
): { start: number; end: number } | 'unsatisfiable' | undefined {
  const [, first, last] = /^bytes=(\d*)-(\d*)$/.exec(header ?? '') ?? [];
  if (first === undefined || last === undefined || (first === '' && last === '')) return undefined;
  if (first === '') {
    const tail = Math.min(Number(last), size);
    return tail === 0 ? 'unsatisfiable' : { start: size - tail, end: size };
  }
  const start = Number(first);
  const end = last === '' ? size : Math.min(Number(last) + 1, size);
  if (last !== '' && Number(last) < start) return undefined;
  return start >= size ? 'unsatisfiable' : { start, end };
}
