/**
 * Debian's redis-server in a fault-tolerant pair on a network: its primary is killed under 50 clients, which go on over
 * the connections they have.
 *
 *   sudo npx tsx examples/unplug-redis.ts [/path/to/redis-server]      (the bridge and its TAP interfaces need root)
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Arbiter, Shadow } from 'lockstep';

const BRIDGE = 'lockstepbr';
const MACHINE = '10.0.2.15';
const ip = (line: string) => execFileSync('ip', line.split(' '));
const cli = (line: string) =>
  execFileSync('redis-cli', ['-h', MACHINE, ...line.split(' ')])
    .toString()
    .trim();

const directory = await mkdtemp(join(tmpdir(), 'lockstep-unplug-'));
const link = `unix:${directory}/link`;
const arbiter = `file:${directory}/arbiter`;
const server = process.argv[2] ?? 'redis-server';

// Both sides are on this host here. On two, each has a bridge of its own in the same network.
ip(`link add ${BRIDGE} type bridge`);
try {
  ip(`address add 10.0.2.2/24 dev ${BRIDGE}`);
  ip(`link set ${BRIDGE} up`);

  // The primary is a process of its own, so that it can be killed; here it is the command line.
  const lockstep = fileURLToPath(new URL('../bin/lockstep.js', import.meta.url));
  const sides = ['--link', link, '--console', `unix:${directory}/p`, '--arbiter', arbiter];
  const program = [server, '--save', '', '--appendonly', 'no', '--protected-mode', 'no'];
  const primary = spawn(lockstep, ['primary', ...sides, '--net', `bridge:${BRIDGE}`, '--', ...program]);

  await using shadow = await Shadow.create({
    link,
    console: `unix:${directory}/s`,
    arbiter: Arbiter.parse(arbiter),
    net: { bridge: BRIDGE },
  });
  shadow.on('live', ({ generation }) => console.log(`the shadow is live, generation ${generation}`));
  await shadow.start();

  // Until the server listens, it refuses.
  for (let tries = 0; tries < 100; tries++) {
    try {
      if (cli('ping') === 'PONG') break;
    } catch {
      await sleep(100);
    }
  }
  console.log(`set: ${cli('set before unplugged')}`);
  const benchmark = spawn('redis-benchmark', [
    '-h',
    MACHINE,
    '-c',
    '50',
    '-n',
    '100000',
    '-t',
    'set',
    '--csv',
  ]);
  benchmark.stdout.setEncoding('latin1').on('data', (text: string) => {
    const [test, perSecond, , , , , , slowest] =
      text.replaceAll('"', '').trim().split('\n').at(-1)?.split(',') ?? [];
    console.log(`${test}: ${perSecond} a second, the slowest answer after ${slowest} ms`);
  });
  await sleep(500);
  primary.kill('SIGKILL');
  const [status] = await once(benchmark, 'close');
  console.log(`the clients end with status ${status}`);
  console.log(`get: ${cli('get before')}`);
  cli('shutdown nosave');
  console.log(`redis-server ends with status ${(await shadow.ended).status}`);
} finally {
  ip(`link delete ${BRIDGE}`);
}
await rm(directory, { recursive: true });
