/** Programs that are large as a download and need little of it: what each is packed from, and what it is asked. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Image, type ImageProgramOptions, Machine } from '../../lib/index.js';
import { unpackDebian, unpackedRoot } from '../../scripts/unpack-debian.mjs';
import { redisServer } from '../../test/helpers/redis-server.js';
import { BUSYBOX } from './programs.js';

const ADDRESS = '10.0.2.15';
const REDIS_PORT = 6379;
const TRY_MS = 100;
export const MIB = 1 << 20;

export interface Streamed {
  name: 'python' | 'python-snapshot' | 'nginx' | 'redis' | 'busybox';
  what: string;
  /** Of the bytes, at the first answer. */
  shareMax: number;
  /** It has a network card. */
  net: boolean;
  /** The image's file, made in a directory of the bench's. */
  make: (directory: string, quick: boolean) => Promise<Image>;
  /** What it touches depends on what it is asked: it is asked what was learned, and in a second start another thing. */
  isKeyed?: boolean;
  /** Resolves with the first answer. */
  ask: (machine: Machine, question: number) => Promise<void>;
  /** Some work once past the first answer; where it is to be compared. */
  work?: (machine: Machine) => Promise<void>;
}

/** What the packer leaves out of the standard library. */
const LEFT_OUT = ['ensurepip', 'idlelib', 'lib2to3', 'pydoc_data']
  .map((name) => `/usr/lib/python3.11/${name}`)
  .filter(existsSync);

/** Bytes that do not compress. */
function noise(name: string, bytes: number): Buffer {
  return createHash('shake256', { outputLength: bytes }).update(name).digest();
}

/** Files of all sizes, so many bytes together. */
function files(directory: string, bytes: number, suffix = ''): void {
  mkdirSync(directory, { recursive: true });
  for (let i = 0, left = bytes; left > 0; i++) {
    const size = Math.min(left, 2000 * (1 + ((i * 7919) % 250)));
    writeFileSync(join(directory, `${i}${suffix}`), noise(`${directory.length} ${i}`, size));
    left -= size;
  }
}

function until(machine: Machine, text: string): Promise<void> {
  return new Promise((resolve) => {
    let said = '';
    const hear = (chunk: Buffer): void => {
      said += chunk;
      if (!said.includes(text)) return;
      machine.stdout.off('data', hear);
      resolve();
    };
    machine.stdout.on('data', hear);
  });
}

/** Sends what it is given and resolves with what comes back first; null when nobody answers. */
function request(port: number, text: string): Promise<string | null> {
  return new Promise((resolve) => {
    const socket = connect({ host: ADDRESS, port, timeout: TRY_MS });
    socket.on('connect', () => socket.setTimeout(0).write(text));
    socket.on('data', (bytes) => {
      resolve(bytes.toString('latin1'));
      socket.destroy();
    });
    socket.on('timeout', () => socket.destroy());
    socket.on('error', () => {});
    socket.on('close', () => resolve(null));
  });
}

async function answered(port: number, text: string, answer: string): Promise<void> {
  for (;;) {
    const got = await request(port, text);
    if (got?.startsWith(answer)) return;
    if (got !== null) throw new Error(`answered ${JSON.stringify(got.slice(0, 80))}`);
    await sleep(10);
  }
}

const pack = (options: ImageProgramOptions): Promise<Image> => Image.fromProgram(options);

const python: Streamed = {
  name: 'python',
  what: 'CPython with its standard library and test suite, a line at its prompt',
  shareMax: 0.1,
  net: false,
  make: (directory) => {
    const tests = join(directory, 'python-tests');
    cpSync('/usr/lib/python3.11/test', tests, { recursive: true });
    const suite = join(unpackDebian('libpython3.11-testsuite'), 'usr/lib/python3.11/test');
    cpSync(suite, tests, { recursive: true });
    // As Debian does when it installs the package; some of the tests are wrong on purpose.
    spawnSync('/usr/bin/python3', ['-m', 'compileall', '-q', '-j', '2', tests], { stdio: 'ignore' });
    return pack({
      argv: ['/usr/bin/python3', '-i'],
      files: [{ host: tests, guest: '/usr/lib/python3.11/test' }, ...LEFT_OUT.map((host) => ({ host }))],
    });
  },
  ask: async (machine, question) => {
    const answer = until(machine, `<${question * question}>`);
    machine.stdin.write(`print(f"<{${question} * ${question}}>")\n`);
    await answer;
  },
  work: async (machine) => {
    const answer = until(machine, '<done>');
    machine.stdin.write('x = sum(i * i % 7 for i in range(8000000)); print("<done>")\n');
    await answer;
  },
};

const pythonSnapshot: Streamed = {
  ...python,
  name: 'python-snapshot',
  what: 'CPython with all of that, from a snapshot taken at its prompt, a line',
  shareMax: 0.05,
  make: async (directory, quick) => {
    await using machine = await Machine.create(await python.make(directory, quick), { stderr: 'ignore' });
    await machine.start();
    await python.ask(machine, 7);
    const path = join(directory, 'python.snapshot');
    await machine.snapshot(path, { force: true });
    return Image.open(path);
  },
};

const nginx: Streamed = {
  name: 'nginx',
  what: 'nginx with 200 MiB of documents, its first page',
  shareMax: 0.05,
  net: true,
  make: (directory, quick) => {
    const www = join(directory, 'www');
    files(www, (quick ? 20 : 200) * MIB, '.html');
    writeFileSync(join(www, 'index.html'), noise('index', 20_000));
    const config = join(directory, 'nginx.conf');
    writeFileSync(
      config,
      `error_log stderr; pid /tmp/nginx.pid; user root; daemon off; master_process off;
events { worker_connections 64; }
http { access_log off; root /www; server { listen 80; } }\n`,
    );
    unpackDebian('nginx');
    return pack({
      argv: [join(unpackedRoot, 'nginx/usr/sbin/nginx'), '-c', '/etc/nginx.conf', '-e', 'stderr'],
      memoryMiB: 384,
      files: [
        { host: www, guest: '/www' },
        { host: config, guest: '/etc/nginx.conf' },
      ],
    });
  },
  ask: () => answered(80, 'GET / HTTP/1.0\r\n\r\n', 'HTTP/1.1 200'),
};

const redis: Streamed = {
  name: 'redis',
  what: 'redis from a snapshot with 200 MiB of data, its first GET',
  shareMax: 0.05,
  net: true,
  isKeyed: true,
  make: async (directory, quick) => {
    const image = await pack({ argv: redisServer(directory), memoryMiB: 512 });
    await using machine = await Machine.create(image, { net: { tap: true }, stdout: 'ignore' });
    await machine.start();
    await answered(REDIS_PORT, 'PING\r\n', '+PONG');
    await fill((quick ? 20 : 200) * MIB);
    const path = join(directory, 'redis.snapshot');
    await machine.snapshot(path, { force: true });
    return Image.open(path);
  },
  ask: (_, question) => answered(REDIS_PORT, `GET key:${question}\r\n`, '$1000'),
};

/** Values of 1000 bytes that do not compress. */
async function fill(bytes: number): Promise<void> {
  const socket = connect({ host: ADDRESS, port: REDIS_PORT });
  let left = Math.ceil(bytes / 1000);
  const all = new Promise<void>((resolve, reject) => {
    socket.on('error', reject);
    socket.on('data', (reply: Buffer) => {
      for (const byte of reply) if (byte === 0x2b) left--;
      if (left === 0) resolve();
    });
  });
  const count = left;
  for (let i = 0; i < count; i += 100) {
    const parts: Buffer[] = [];
    for (let key = i; key < Math.min(i + 100, count); key++) {
      const name = `key:${key}`;
      parts.push(Buffer.from(`*3\r\n$3\r\nSET\r\n$${name.length}\r\n${name}\r\n$1000\r\n`));
      parts.push(noise(name, 1000), Buffer.from('\r\n'));
    }
    if (!socket.write(Buffer.concat(parts))) await new Promise((done) => socket.once('drain', done));
  }
  await all;
  socket.destroy();
}

const busybox: Streamed = {
  name: 'busybox',
  what: 'busybox among 100 MiB of other files, its first output',
  shareMax: 0.1,
  net: false,
  make: (directory, quick) => {
    const others = join(directory, 'others');
    files(others, (quick ? 10 : 100) * MIB);
    return pack({ argv: [BUSYBOX, 'cat'], files: [{ host: others, guest: '/others' }] });
  },
  ask: async (machine, question) => {
    const answer = until(machine, `${question}\n`);
    machine.stdin.write(`${question}\n`);
    await answer;
  },
};

export const STREAMED: readonly Streamed[] = [busybox, python, pythonSnapshot, nginx, redis];
