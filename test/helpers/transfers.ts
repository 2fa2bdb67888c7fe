/** Debian's nginx on the near side of a bad cable, Debian's curl on the far side: a file each way, at the same time. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createReadStream, mkdirSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BadCable, CARD, type Carried, FAR, NEAR, type Vices } from './bad-cable.js';
import { drain, lockstep, root } from './command.js';

const unpacked = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'lockstep/debian');
const nginx = join(unpacked, 'nginx/usr/sbin/nginx');
const MEMORY_BESIDE_FILES_MIB = 160;
const START_TRIES = 200;

const configuration = (
  at: string,
) => `error_log stderr; pid ${at}/nginx.pid; user root; daemon off; master_process off;
events { worker_connections 64; }
http {
  access_log off; root ${at};
  client_max_body_size 0; client_body_temp_path ${at}/a; proxy_temp_path ${at}/b; fastcgi_temp_path ${at}/c;
  uwsgi_temp_path ${at}/d; scgi_temp_path ${at}/e;
  server { listen 8080; dav_methods PUT; }
}`;

export interface Transfers {
  /** What curl says it took. */
  downloadS: number;
  uploadS: number;
  /** What arrived is what was sent. */
  intact: boolean;
  /** From near to far, and back. */
  carried: [Carried, Carried];
}

export interface Job {
  kind: 'machine' | 'host';
  vices: Vices;
  /** What the host's stack does about it; without it, what the host is set to. */
  congestion?: string;
  /** The file that goes both ways, and how long it is. */
  file: string;
  bytes: number;
  /** An empty one, for what arrives and for the log. */
  directory: string;
  /** The machine's recording. */
  log?: string;
}

async function sha256(file: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(file)) hash.update(chunk);
  return hash.digest('hex');
}

/** Gives what a command prints; it may take any time. */
async function output(argv: string[]): Promise<string> {
  const child = spawn(argv[0] as string, argv.slice(1), { stdio: ['ignore', 'pipe', 'pipe'], cwd: root });
  const [said, complained, [status]] = await Promise.all([
    drain(child.stdout),
    drain(child.stderr),
    once(child, 'close'),
  ]);
  if (status !== 0) throw new Error(`${argv.join(' ')} ended with ${status}: ${complained}`);
  return said.toString();
}

export async function transferBothWays({
  kind,
  vices,
  congestion,
  file,
  bytes,
  directory,
  log,
}: Job): Promise<Transfers> {
  const cable = await BadCable.lay(kind, vices, congestion);
  const files = kind === 'machine' ? '/www' : join(directory, 'www');
  const config = join(directory, 'nginx.conf');
  const control = join(directory, 'control');
  writeFileSync(config, configuration(files));
  if (kind === 'host') {
    mkdirSync(files);
    await output(['ln', file, join(files, 'down')]);
  }
  const memory = MEMORY_BESIDE_FILES_MIB + 4 * Math.ceil(bytes / 2 ** 20);
  const argv = [nginx, '-c', kind === 'machine' ? '/etc/nginx.conf' : config, '-e', 'stderr'];
  const record = `record --quiet --net tap:${CARD} --ip ${NEAR}/24 --gateway ${FAR} --memory ${memory}`.split(
    ' ',
  );
  const machine = [process.execPath, lockstep, ...record, '--control', control, '--log', log as string];
  const packed = ['--file', `${file}:/www/down`, '--file', `${config}:/etc/nginx.conf`, '--'];
  const [command, ...words] = cable.near.inside(kind === 'machine' ? [...machine, ...packed, ...argv] : argv);
  const server = spawn(command as string, words, { stdio: ['ignore', 'ignore', 'pipe'], cwd: root });
  const ended = once(server, 'close');
  const complained = drain(server.stderr);
  try {
    const url = `http://${NEAR}:8080`;
    const curl = (...more: string[]) => output(cable.far.inside(['curl', '-sSf', ...more]));
    for (let tries = 0; ; tries++) {
      if (server.exitCode !== null) throw new Error(`the server is over: ${await complained}`);
      const up = curl('-r', '0-0', '-o', join(directory, 'first'), `${url}/down`).then(() => true);
      if (await up.catch((error) => (tries < START_TRIES ? false : Promise.reject(error)))) break;
      await sleep(100);
    }
    const [down, up] = [join(directory, 'down'), join(directory, 'up')];
    const [downloadS, uploadS] = (
      await Promise.all([
        curl('-o', down, '-w', '%{time_total}', `${url}/down`),
        curl('-T', file, '-H', 'Expect:', '-w', '%{time_total}', `${url}/up`),
      ])
    ).map(Number) as [number, number];
    if (kind === 'machine')
      await output([process.execPath, lockstep, 'cp', '--control', control, '/www/up', up]);
    const sums = await Promise.all([file, down, kind === 'machine' ? up : join(files, 'up')].map(sha256));
    server.kill('SIGTERM');
    await ended;
    return {
      downloadS,
      uploadS,
      intact: sums.every((sum) => sum === sums[0]),
      carried: await cable.cut(),
    };
  } catch (error) {
    server.kill('SIGKILL');
    await cable.cut();
    throw error;
  }
}
