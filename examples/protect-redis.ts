/**
 * Debian's redis-server on a cluster of three hosts: the one where it runs dies with all that is on it, and the next one
 * is found by itself. Then that dies, too.
 *
 *   sudo npx tsx examples/protect-redis.ts [/path/to/redis-server [/path/to/etcd]]      (the bridge and TAPs need root)
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { cluster, Image, type KeptMachine, type ProtectedMachine, protect, unprotect } from 'lockstep';

const BRIDGE = 'lockstepbr';
const MACHINE = '10.0.2.15';
const SERVER = '127.0.0.1:2379';
const [, , redis = 'redis-server', etcdServer = 'etcd'] = process.argv;
const ip = (line: string) => execFileSync('ip', line.split(' '));
const cli = (line: string) =>
  execFileSync('redis-cli', ['-h', MACHINE, ...line.split(' ')], { stdio: 'pipe' })
    .toString()
    .trim();

const directory = await mkdtemp(join(tmpdir(), 'lockstep-protect-'));
const lockstep = fileURLToPath(new URL('../bin/lockstep.js', import.meta.url));
const running: ChildProcess[] = [];
function run(program: string, args: string[]): ChildProcess {
  const child = spawn(program, args, { stdio: 'ignore' });
  running.push(child);
  return child;
}

function untilProtected(machine: ProtectedMachine, generation: number): Promise<KeptMachine> {
  return new Promise((resolve) =>
    machine.on('change', (kept) => kept.protected && kept.generation === generation && resolve(kept)),
  );
}

/** Until the server in the machine answers. */
async function ask(line: string): Promise<string> {
  for (let tries = 0; tries < 100; tries++) {
    try {
      return cli(line);
    } catch {
      await sleep(100);
    }
  }
  throw new Error('redis does not answer');
}

ip(`link add ${BRIDGE} type bridge`);
try {
  ip(`address add 10.0.2.2/24 dev ${BRIDGE}`);
  ip(`link set ${BRIDGE} up`);
  run(etcdServer, ['--data-dir', join(directory, 'etcd')]);
  const etcd = { endpoints: [SERVER] };
  const known = await cluster(etcd);

  // Hosts are processes on one machine here. On three, each has an address and a bridge of its own in the same networks,
  // and they need keys: `--tls`.
  const hosts = new Map<string, ChildProcess>();
  for (const [index, name] of ['A', 'B', 'C'].entries()) {
    const where = ['--name', name, '--address', `127.0.0.${index + 1}`, '--net', `bridge:${BRIDGE}`];
    const own = [...where, '--directory', join(directory, name), '--memory', '512', '--lease', '2'];
    hosts.set(name, run(lockstep, ['host', '--etcd', SERVER, ...own]));
  }
  while ((await known.view()).hosts.size < 3) await sleep(100);
  known.close();

  const argv = [redis, '--save', '', '--appendonly', 'no', '--protected-mode', 'no'];
  const image = await Image.fromProgram({ argv });
  const machine = await protect({ etcd, name: 'redis', image, memoryMiB: 128, net: { ip: `${MACHINE}/24` } });
  const first = await untilProtected(machine, 1);
  console.log(`set: ${await ask('set before failures')}`);

  const mended = untilProtected(machine, 2);
  hosts.get(first.live ?? '')?.kill('SIGKILL');
  console.log(`its host is dead; get: ${await ask('get before')}`);
  const second = await mended;
  console.log(`live where its shadow was: ${second.live === first.shadow}; protected by a third host`);

  hosts.get(second.live ?? '')?.kill('SIGKILL');
  console.log(`that host is dead, too; get: ${await ask('get before')}`);

  await unprotect({ etcd, name: 'redis' });
  console.log(`it is over: ${(await machine.ended).reason}`);
} finally {
  for (const child of running) child.kill('SIGKILL');
  ip(`link delete ${BRIDGE}`);
}
await rm(directory, { recursive: true });
