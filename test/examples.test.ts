import { join } from 'node:path';
import test from 'ava';
import { unpackDebian } from '../scripts/unpack-debian.mjs';
import { command, root, scratch } from './helpers/command.js';
import { redisServer } from './helpers/redis-server.js';

/** With arguments: in a network namespace of its own, whose loopback is up as on any host. */
async function example(
  name: string,
  ...args: string[]
): Promise<{ lines: string[]; stderr: string; status: number | null }> {
  const argv = [join(root, 'node_modules/.bin/tsx'), join(root, 'examples', name), ...args];
  const namespace =
    args.length > 0 ? ['unshare', '--net', 'sh', '-c', 'ip link set lo up && exec "$0" "$@"'] : [];
  const { status, stdout, stderr } = await command([...namespace, ...argv], { cwd: root });
  return { status, stderr, lines: stdout.toString().trimEnd().split('\n') };
}

test.serial('record-and-replay.ts', async (t) => {
  const { status, lines, stderr } = await example('record-and-replay.ts');
  t.is(status, 0, stderr);
  t.deepEqual(lines.slice(0, 3), [
    '2^64 = 18446744073709551616',
    'scale=30; 4*a(1) = 3.141592653589793238462643383276',
    'sqrt(2) = 1.414213562373095048801688724209',
  ]);
  t.regex(lines[3] as string, /^recorded: \d+ events, exit status 0$/);
  t.regex(lines[4] as string, /^replayed: \d+ events, \d+ digests equal$/);
  t.regex(lines[5] as string, /^after event 2 the processor stood at 0x[0-9a-f]+$/);
});

test.serial('stream-app.ts', async (t) => {
  const { status, lines, stderr } = await example('stream-app.ts');
  t.is(status, 0, stderr);
  t.regex(lines[0] as string, /^published: \d+ blocks$/);
  t.is(lines[1], '2^64 = 18446744073709551616');
  t.regex(lines[2] as string, /^at that time \d+% was here, \d+ blocks were waited for$/);
  t.deepEqual(lines.slice(3), ['whole: whole, exit status 0', 'the same image: true']);
});

test.serial('trace-exits.ts', async (t) => {
  const { status, lines, stderr } = await example('trace-exits.ts');
  t.is(status, 0, stderr);
  t.deepEqual(
    lines.slice(0, 4),
    ['primary', 'shadow', 'log', 'event'].map((word) => `${word}, and again: ${word}`),
  );
  t.regex(lines.join('\n'), /write 1 port 0x/);
  t.regex(lines.at(-1) as string, /^[1-9]\d* pages written, 0 entries dropped, [1-9]\d* exits in all$/);
});

test.serial('spawn-pair.ts', async (t) => {
  const { status, lines, stderr } = await example('spawn-pair.ts');
  t.is(status, 0, stderr);
  const answers = lines.filter((line) => /^\d+: /.test(line));
  t.deepEqual(
    answers,
    Array.from({ length: 20 }, (_, index) => `${index + 1}: line ${index + 1}`),
  );
  t.is(lines[0], 'the pair is protected');
  t.true(lines.includes('the shadow is live, generation 2'));
  t.true(lines.some((line) => /^nobody answered for [\d.]+ ms$/.test(line)));
  t.is(lines.at(-1), '20 lines, 20 answers, exit status 0');
});

test.serial('unplug-redis.ts', async (t) => {
  const { status, lines, stderr } = await example('unplug-redis.ts', redisServer(scratch(t))[0] as string);
  t.is(status, 0, stderr);
  t.is(lines[0], 'set: OK');
  t.true(lines.includes('the shadow is live, generation 2'));
  t.true(lines.includes('the clients end with status 0'));
  t.deepEqual(lines.slice(-2), ['get: unplugged', 'redis-server ends with status 0']);
});

test.serial('protect-redis.ts', async (t) => {
  const etcd = join(unpackDebian('etcd-server'), 'usr/bin/etcd');
  const redis = redisServer(scratch(t))[0] as string;
  const { status, lines, stderr } = await example('protect-redis.ts', redis, etcd);
  t.is(status, 0, stderr);
  t.deepEqual(lines, [
    'set: OK',
    'its host is dead; get: failures',
    'live where its shadow was: true; protected by a third host',
    'that host is dead, too; get: failures',
    'it is over: removed',
  ]);
});
