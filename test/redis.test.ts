/** Debian's redis-server in a machine, Debian's clients on the host, in a network namespace of the test's own. */
import { join } from 'node:path';
import test from 'ava';
import { Recording } from '../lib/index.js';
import { command, lockstep, printedRandom, root, scratch } from './helpers/command.js';
import { times } from './helpers/pace.js';
import { redisServer } from './helpers/redis-server.js';
import { replayKicked } from './helpers/replays.js';

const inNamespace = (script: string, ...args: string[]) =>
  command(['unshare', '--net', 'sh', '-c', script, 'sh', ...args], { cwd: root });

test.serial(
  'redis-server under redis-benchmark and redis-cli, recorded, replays to the same frames',
  async (t) => {
    const random = printedRandom(t);
    const here = scratch(t);
    const log = join(here, 'redis.log');
    const client = 'redis-cli -h 10.0.2.15';
    const script = `
    "$1" "$2" record --quiet --net tap --log "$3" -- "$4" --save '' --appendonly no --protected-mode no > "$5" 2>&1 &
    machine=$!
    for i in $(seq 300); do ${client} ping > /dev/null 2>&1 && break; sleep 0.1; done
    redis-benchmark -h 10.0.2.15 -c 50 -n 10000 -t get,set --csv
    redis-benchmark -h 10.0.2.15 -c 50 -n 20000 -P 16 -t get,set --csv
    ${client} eval 'return redis.call("SET", KEYS[1], ARGV[1])' 1 key value
    ${client} get key
    (sleep 0.3; ${client} rpush queue item > /dev/null) &
    ${client} blpop queue 20
    ${client} shutdown nosave
    wait $machine
    echo "status $?"`;
    const recorded = await inNamespace(
      script,
      process.execPath,
      lockstep,
      log,
      redisServer(here)[0] as string,
      join(here, 'out'),
    );
    const lines = recorded.stdout.toString().trimEnd().split('\n');
    t.is(lines.filter((line) => /^"(GET|SET)"/.test(line)).length, 4, recorded.stdout.toString());
    t.deepEqual(lines.slice(-5), ['OK', 'value', 'queue', 'item', 'status 0'], recorded.stderr.toString());

    const { info } = await Recording.open(log);
    t.true(info.eventBytes <= 1.1 * info.inputBytes + 8 * info.events, `${info.eventBytes} bytes of log`);
    for (const report of await replayKicked(log, times(4), random)) {
      t.is(report.divergence, null, JSON.stringify(report));
      t.true(report.digests.checked > 1);
    }
  },
);

test.serial('examples/record-redis.ts', async (t) => {
  const tsx = join(root, 'node_modules/.bin/tsx');
  const { status, stdout, stderr } = await inNamespace(
    'exec "$1" "$2" "$3"',
    tsx,
    join(root, 'examples/record-redis.ts'),
    redisServer(scratch(t))[0] as string,
  );
  t.is(status, 0, stderr.toString());
  const lines = stdout.toString().trimEnd().split('\n');
  t.deepEqual(lines.slice(0, 4), ['PING: +PONG', 'SET answer 42: +OK', 'INCR answer: :43', 'GET answer: $2']);
  t.regex(lines[4] as string, /^recorded: exit status 0, [1-9]\d* frames in, [1-9]\d* out$/);
  t.regex(lines[5] as string, /^replayed: [1-9]\d* digests equal$/);
});
