/** Debian's redis-server with data, restored from a snapshot in another process, under Debian's clients. */
import { join } from 'node:path';
import test from 'ava';
import { Image, Machine, replay } from '../lib/index.js';
import { command, lockstep, root, scratch } from './helpers/command.js';
import { redisServer } from './helpers/redis-server.js';

const KEYS = 20_000;
const FILL = `for i = 1, ${KEYS} do redis.call("SET", "key:"..i, string.rep(tostring(i), 200)) end
  return redis.call("DBSIZE")`;

/** $1 node, $2 lockstep, $3 the directory, $4 redis-server. */
const SCRIPT = `cd "$3"
  asked() { redis-cli -h 10.0.2.15 "$@"; }
  ready() { for i in $(seq 600); do asked ping > /dev/null 2>&1 && break; sleep 0.05; done; }
  "$1" "$2" run --quiet --net tap --control ctl -- "$4" --save '' --appendonly no --protected-mode no > out 2>&1 &
  machine=$!
  ready
  asked eval '${FILL}' 0
  (redis-benchmark -h 10.0.2.15 -c 20 -n 20000 -t set,get -q > /dev/null) &
  load=$!
  "$1" "$2" snapshot --quiet --json --control ctl x.snapshot
  wait $load || echo "the load failed"
  asked set only first
  asked shutdown nosave
  wait $machine; echo "status $?"
  "$1" "$2" record --quiet --net tap --log x.log --image x.snapshot >> out 2>&1 &
  machine=$!
  ready
  asked get key:777 | head -c 12; echo
  asked get only
  asked set only second
  asked get only
  asked eval 'local n = 0 for i = 1, ${KEYS} do
    if redis.call("GET", "key:"..i) == string.rep(tostring(i), 200) then n = n + 1 end end return n' 0
  asked shutdown nosave
  wait $machine; echo "status $?"
  cat out >&2`;

test.serial(
  'redis goes on from its snapshot with all its data, under load, recorded and replayed',
  async (t) => {
    const here = scratch(t);
    const [server = ''] = redisServer(here);
    const { stdout, stderr } = await command(
      ['unshare', '--net', 'sh', '-c', SCRIPT, 'sh', process.execPath, lockstep, here, server],
      { cwd: root },
    );
    const [filled, taken = '{}', ...said] = stdout.toString().trimEnd().split('\n');
    t.is(filled, String(KEYS), stderr);
    t.deepEqual(
      said,
      ['OK', 'status 0', '777777777777', '', 'OK', 'second', String(KEYS), 'status 0'],
      stderr,
    );
    const path = join(here, 'x.snapshot');
    await using restored = await Machine.restore(path);
    t.deepEqual(await restored.digest(), JSON.parse(taken).digest);
    await using replaying = await replay(join(here, 'x.log'), { image: await Image.open(path) });
    const { divergence, digests } = await replaying.result;
    t.is(divergence, null);
    t.true(digests.checked > 1);
  },
);
