/**
 * Debian's servers in a machine, Debian's clients on the host, each in a network namespace of the test's own. The
 * servers were unpacked, not installed (scripts/unpack-debian.mjs): nothing is started on the host.
 */
import { createHash, pbkdf2Sync, randomFillSync } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Recording } from '../lib/index.js';
import { unpackDebian, unpackedRoot } from '../scripts/unpack-debian.mjs';
import { command, lockstep, printedRandom, root, scratch } from './helpers/command.js';
import { emulated, times } from './helpers/pace.js';
import { replayKicked } from './helpers/replays.js';

const quoted = (word: string) => `'${word.replaceAll("'", "'\\''")}'`;

interface Server {
  argv: string[];
  /** What `--file` packs. */
  files?: string[];
  port: number;
  /** A script, with the machine at 10.0.2.15; its output is checked. */
  clients: string;
}

/** Records the server under its clients, ends it with SIGTERM, and gives what the clients said. */
async function underClients(log: string, { argv, files = [], port, clients }: Server): Promise<string> {
  // However few events a busy host makes of it.
  const digests = ['--digest-every', '20'];
  const record = [process.execPath, lockstep, 'record', '--quiet', ...digests, '--net', 'tap', '--log', log];
  const words = [...record, ...files.flatMap((file) => ['--file', file]), '--', ...argv];
  const script = `
    ${words.map(quoted).join(' ')} > ${quoted(`${log}.out`)} 2>&1 &
    machine=$!
    for i in $(seq 600); do bash -c ': < /dev/tcp/10.0.2.15/${port}' 2> /dev/null && break; sleep 0.1; done
    ${clients}
    kill -TERM $machine
    wait $machine
    echo "status $?"`;
  const { stdout, stderr } = await command(['unshare', '--net', 'sh', '-c', script], { cwd: root });
  const said = stdout.toString();
  if (!said.endsWith('status 143\n')) throw new Error(`${said}\n${stderr}`);
  return said;
}

function www(directory: string): { files: string[]; sums: Map<string, string> } {
  const sums = new Map<string, string>();
  const files: string[] = [];
  for (const [name, bytes] of Object.entries({ one: 1, page: 5000, large: emulated ? 1 << 20 : 10 << 20 })) {
    const content = randomFillSync(Buffer.alloc(bytes));
    writeFileSync(join(directory, name), content);
    sums.set(name, createHash('sha256').update(content).digest('hex'));
    files.push(`${join(directory, name)}:/www/${name}`);
  }
  return { files, sums };
}

const CURL = `for name in one page large one; do echo "$name $(curl -sf http://10.0.2.15:$port/$name | sha256sum)"; done
    curl -sf -o /dev/null -o /dev/null -o /dev/null -w '%{num_connects} ' http://10.0.2.15:$port/one http://10.0.2.15:$port/page http://10.0.2.15:$port/one; echo`;

const NGINX = `error_log stderr; pid /tmp/nginx.pid; user root; daemon off; master_process off;
events { worker_connections 256; }
http {
  access_log off; root /www;
  client_body_temp_path /tmp/a; proxy_temp_path /tmp/b; fastcgi_temp_path /tmp/c;
  uwsgi_temp_path /tmp/d; scgi_temp_path /tmp/e;
  server { listen 8080; }
}`;

const NODE = `require('node:http').createServer((request, response) => {
  if (request.url === '/threads') {
    // The pool's threads do this.
    require('node:crypto').pbkdf2('secret', 'salt', 1000, 32, 'sha256', (error, key) => response.end(key.toString('hex')));
  } else {
    require('node:fs').createReadStream('/www' + request.url).pipe(response);
  }
}).listen(8080, '0.0.0.0');`;

interface Case extends Server {
  /** What its clients have to have said; `sums`: of the files under /www. */
  check(t: ExecutionContext, said: string, sums: Map<string, string>): void;
}

const checkFiles: Case['check'] = (t, said, sums) => {
  for (const file of ['one', 'page', 'large']) t.true(said.includes(`${file} ${sums.get(file)}`), said);
};

/** Each with a directory of its own; the files of {@link www} are packed with them. */
const CASES: Record<string, (here: string) => Case> = {
  memcached: () => ({
    argv: [join(unpackedRoot, 'memcached/usr/bin/memcached'), '-t', '4', '-u', 'root', '-U', '0'],
    port: 11211,
    clients: 'memccapable -h 10.0.2.15 -p 11211',
    check: (t, said) => t.regex(said, /All tests passed/),
  }),
  nginx: (here) => {
    const config = join(here, 'nginx.conf');
    writeFileSync(config, NGINX);
    return {
      argv: [join(unpackedRoot, 'nginx/usr/sbin/nginx'), '-c', '/etc/nginx.conf', '-e', 'stderr'],
      files: [`${config}:/etc/nginx.conf`],
      port: 8080,
      clients: `port=8080; ${CURL}; wrk -t 1 -c 20 -d 2s http://10.0.2.15:8080/page`,
      check: (t, said, sums) => {
        checkFiles(t, said, sums);
        t.regex(said, /^1 0 0 $/m, said); // one connection for three requests
        t.regex(said, /^ *[1-9]\d* requests in/m, said);
        t.notRegex(said, /Socket errors|Non-2xx/, said);
      },
    };
  },
  'python3 -m http.server': () => ({
    argv: ['/usr/bin/python3', '-m', 'http.server', '8000', '--directory', '/www'],
    port: 8000,
    clients: `port=8000; ${CURL}`,
    check: checkFiles,
  }),
  // Compiles while it runs, and has a pool of threads.
  'node, that we are running in': () => ({
    argv: [process.execPath, '-e', NODE],
    port: 8080,
    clients: `port=8080; ${CURL}; curl -sf http://10.0.2.15:8080/threads; echo`,
    check: (t, said, sums) => {
      checkFiles(t, said, sums);
      t.true(said.includes(pbkdf2Sync('secret', 'salt', 1000, 32, 'sha256').toString('hex')), said);
    },
  }),
  // Written in Go: a runtime that makes its system calls itself and stops its threads by signals.
  etcd: () => ({
    argv: [
      ...[join(unpackDebian('etcd-server'), 'usr/bin/etcd'), '--data-dir', '/tmp/etcd'],
      ...['--listen-client-urls', 'http://0.0.0.0:2379', '--advertise-client-urls', 'http://10.0.2.15:2379'],
    ],
    port: 2379,
    // It takes connections before it has elected itself.
    clients: `put() { curl -sf -d '{"key":"a2V5","value":"dmFsdWU="}' http://10.0.2.15:2379/v3/kv/put > /dev/null; }
      for i in $(seq 100); do put && break; sleep 0.1; done
      curl -sf -d '{"key":"a2V5"}' http://10.0.2.15:2379/v3/kv/range; echo`,
    check: (t, said) => t.regex(said, /"key":"a2V5".*"value":"dmFsdWU="/),
  }),
};

for (const [name, make] of Object.entries(CASES)) {
  test.serial(`${name}, recorded under its clients, replays exactly`, async (t) => {
    const random = printedRandom(t);
    const here = scratch(t);
    const log = join(here, 'x.log');
    const { files, sums } = www(here);
    const { check, ...server } = make(here);
    check(t, await underClients(log, { ...server, files: [...files, ...(server.files ?? [])] }), sums);
    const { info } = await Recording.open(log);
    t.true(info.eventBytes <= 1.1 * info.inputBytes + 8 * info.events, `${info.eventBytes} bytes of log`);
    for (const report of await replayKicked(log, times(4), random)) {
      t.is(report.divergence, null, JSON.stringify(report));
      t.true(report.digests.checked > 1);
    }
  });
}
