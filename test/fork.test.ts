/** Forks: several machines from one, in this process, by copy-on-write. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { Image, Machine, record, replay } from '../lib/index.js';
import { awkImage, lines, talk } from './helpers/awk-machine.js';
import { printedRandom, scratch } from './helpers/command.js';

/** Has so many MiB of numbers, and says the one that is asked for; changes it if told to: `7` or `7 new`. */
const TABLE = (mib: number) => `local t = {}
  for i = 1, ${mib * 65536} do t[i] = i end
  print("ready") io.stdout:flush()
  for line in io.lines() do
    local at, to = line:match("(%d+) ?(%d*)")
    if to ~= "" then t[tonumber(at)] = tonumber(to) end
    print(t[tonumber(at)]) io.stdout:flush()
  end`;

const tableImage = (mib: number) => Image.fromProgram({ argv: ['lua5.4', '-e', TABLE(mib)] });

test.serial('a fork goes on by itself, and so does what it was forked from', async (t) => {
  await using first = await Machine.create(await awkImage());
  await t.throwsAsync(first.fork(), { code: 'ERR_LOCKSTEP_STATE' });
  await first.start();
  const say = talk(first);
  t.is(await say('a'), '1  a');
  await using second = await first.fork();
  t.is(await say('b'), '2 a b');
  await second.start();
  const tell = talk(second);
  t.is(await tell('x'), '2 a x');
  t.is(await say('c'), '3 b c');
  await using third = await second.fork();
  await third.start();
  t.is(await talk(third)('y'), '3 x y');
  t.is(await tell('z'), '3 x z');
  second.stdin.end();
  t.like(await second.ended, { reason: 'exited', status: 0 });
  await t.throwsAsync(second.fork(), { code: 'ERR_LOCKSTEP_STATE' });
  t.is(await say('d'), '4 c d', 'whoever ends takes nothing from the others');
});

test.serial('forks of a paused machine are what it is, to the digest', async (t) => {
  await using first = await Machine.create(await awkImage());
  await first.start();
  const say = talk(first);
  await say('a');
  await first.pause();
  const digest = await first.digest();
  const forks = await Promise.all(Array.from({ length: 5 }, () => first.fork()));
  for (const fork of forks) t.deepEqual(await fork.digest(), digest);
  t.deepEqual(await first.digest(), digest);
  await using grandchild = await (forks[0] as Machine).fork();
  t.deepEqual(await grandchild.digest(), digest, 'one that has not run can be forked, too');
  first.resume();
  t.is(await say('b'), '2 a b');
  await Promise.all(forks.map((fork) => fork.close()));
});

test.serial('what one machine writes no other sees', async (t) => {
  const random = printedRandom(t);
  await using first = await Machine.create(await tableImage(8));
  await first.start();
  const machines: { machine: Machine; say: (line: string) => Promise<string>; table: Map<number, number> }[] =
    [];
  const add = async (machine: Machine, table: Map<number, number>, ready: boolean) => {
    const read = lines(machine.stdout);
    let said = 0;
    if (ready) await read(++said);
    const say = async (line: string) => {
      machine.stdin.write(`${line}\n`);
      return (await read(++said))[said - 1] as string;
    };
    machines.push({ machine, say, table });
  };
  await add(first, new Map(), true);
  for (let round = 0; round < 150; round++) {
    const { machine, say, table } = random.pick(machines);
    if (round % 15 === 7) {
      const fork = await machine.fork();
      await fork.start();
      await add(fork, new Map(table), false);
      continue;
    }
    const at = random.between(1, 8 * 65536);
    if (round % 3 === 0) table.set(at, round);
    t.is(await say(round % 3 === 0 ? `${at} ${round}` : `${at}`), String(table.get(at) ?? at));
  }
  for (const { say, table } of machines)
    for (const [at, value] of table) t.is(await say(String(at)), String(value));
  await Promise.all(machines.map(({ machine }) => machine.close()));
});

test.serial('a fork may be recorded, and so may be what it was forked from', async (t) => {
  const directory = scratch(t);
  const [log, forked] = [join(directory, 'x.log'), join(directory, 'fork.log')];
  const first = await record(await awkImage(), { log, digestEvery: 1 });
  const say = talk(first);
  await say('a');
  const fork = await first.fork({ log: forked, digestEvery: 1, seed: 7 });
  await fork.start();
  t.is(await say('b'), '2 a b');
  t.is(await talk(fork)('x'), '2 a x');
  for (const machine of [first, fork]) {
    machine.stdin.end();
    await machine.ended;
    await machine.close();
  }
  for (const [name, text] of [
    [log, ['1  a', '2 a b']],
    [forked, ['2 a x']],
  ] as const) {
    await using replaying = await replay(name, { stdout: 'stream', kicks: { perSecond: 100, seed: 3 } });
    const read = lines(replaying.machine.stdout);
    const result = await replaying.result;
    t.is(result.divergence, null);
    t.true(result.digests.checked > 1);
    t.deepEqual(await read(text.length), [...text]);
  }
});

test.serial("a fork's network card is joined to nothing, or to what is said", async (t) => {
  const directory = scratch(t);
  const net = (name: string) => ({ unix: `${join(directory, name)},${join(directory, 'peer')}` });
  await using first = await Machine.create(await awkImage(), { net: net('a') });
  await first.start();
  await talk(first)('a');
  for (const options of [{}, { net: net('b') }]) {
    await using fork = await first.fork(options);
    await fork.start();
    t.is(await talk(fork)('b'), '2 a b');
  }
  await t.throwsAsync(first.fork({ net: net('a') }), { code: 'ERR_LOCKSTEP_NET_BUSY' });
  await t.throwsAsync(first.fork({ net: { ...net('c'), ip: '10.0.0.1/24' } as object }), {
    code: 'ERR_LOCKSTEP_INVALID_ARGUMENT',
    message: /^ip was given/,
  });
});

test.serial(
  'whoever waits for a machine that never comes to a position hears when it is closed',
  async (t) => {
    const directory = scratch(t);
    const script = 'print(1) io.stdout:flush() while true do end';
    const machine = await Machine.create(await Image.fromProgram({ argv: ['lua5.4', '-e', script] }));
    await machine.start();
    await lines(machine.stdout)(1);
    const asked = [machine.snapshot(join(directory, 'x')), machine.fork()];
    const heard = Promise.allSettled(asked);
    await machine.close();
    for (const outcome of await heard)
      t.is((outcome as PromiseRejectedResult).reason?.code, 'ERR_LOCKSTEP_STATE');
    t.deepEqual(readdirSync(directory), []);
  },
);

test.serial('a hundred forks of a restored machine share its memory', async (t) => {
  const directory = scratch(t);
  const path = join(directory, 'x.snapshot');
  const first = await Machine.create(await tableImage(32));
  await first.start();
  await lines(first.stdout)(1);
  const { contentBytes } = await first.snapshot(path);
  await first.close();
  t.true(contentBytes > 8 << 20);
  await using restored = await Machine.restore(path);
  const before = proportionalBytes();
  const forks: Machine[] = [];
  for (let i = 0; i < 100; i++) {
    const fork = await restored.fork({ stderr: 'ignore' });
    forks.push(fork);
    await fork.start();
  }
  const answers = await Promise.all(forks.map((fork, i) => talk(fork)(`${i + 1} ${i + 1000}`)));
  t.deepEqual(
    answers,
    forks.map((_, i) => String(i + 1000)),
  );
  const own = (proportionalBytes() - before) / forks.length;
  t.log(`${contentBytes >> 10} KiB of memory, ${Math.round(own / 1024)} KiB more for each fork`);
  t.true(own < contentBytes / 10, `${own} of ${contentBytes}`);
  await Promise.all(forks.map((fork) => fork.close()));
});

/** What this process holds, of shared pages its part. */
function proportionalBytes(): number {
  const text = readFileSync('/proc/self/smaps_rollup', 'utf8');
  return Number(/^Pss: +(\d+)/m.exec(text)?.[1]) * 1024;
}
