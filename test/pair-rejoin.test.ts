/** Shadows that join while the machine runs: real programs in real processes, killed again and again. */
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { ConsoleClient } from '../lib/console-client.js';
import { Recording } from '../lib/index.js';
import { printedRandom, scratch } from './helpers/command.js';
import { patience, times } from './helpers/pace.js';
import { run } from './helpers/pair.js';
import { redisServer } from './helpers/redis-server.js';
import { Chain } from './helpers/rejoin.js';
import type { RejoinJob } from './helpers/rejoin-child.js';
import { rejoinOnce } from './helpers/rejoin-once.js';
import { replayKicked } from './helpers/replays.js';

const AWK = ['/bin/busybox', 'awk', '{ n += length($0); print NR, n, $0; fflush() }'];

function answers(lines: string[]): string {
  let bytes = 0;
  return lines
    .map((line, index) => {
      bytes += line.length;
      return `${index + 1} ${bytes} ${line}\n`;
    })
    .join('');
}

/** Types lines and reads answers; all that was said, in the end. */
class Typist {
  readonly lines: string[] = [];
  text = '';
  #woken = () => {};
  constructor(readonly client: ConsoleClient) {
    client.stdout.on('data', (data: Buffer) => {
      this.text += data.toString('latin1');
      this.#woken();
    });
  }
  type(count: number, word: string): void {
    for (let i = 0; i < count; i++) {
      this.lines.push(`${word} ${this.lines.length}`);
      this.client.stdin.write(`${this.lines.at(-1)}\n`);
    }
  }
  async answered(lines: number): Promise<void> {
    while (this.text.split('\n').length <= lines)
      await new Promise<void>((woken) => {
        this.#woken = woken;
      });
  }
}

async function replaysFromItsStart(t: ExecutionContext, log: string): Promise<void> {
  const random = printedRandom(t);
  for (const one of await replayKicked(log, 2, random)) {
    t.is(one.divergence, null, JSON.stringify(one));
    t.is(one.status, 0);
  }
  const { info } = await Recording.open(log);
  t.true(info.startEvent > 0);
  const { stdout } = await run(['log', 'info', log]);
  t.regex(stdout, /starts {8}behind event/);
  for (const args of [
    ['log', 'events', log],
    ['log', 'verify', log],
    ['image', 'inspect', log],
  ]) {
    const { status, stderr } = await run(args);
    t.is(status, 0, `${args.join(' ')}: ${stderr}`);
  }
  const early = await run(['replay', '--event', String(info.startEvent - 1), log]);
  t.is(early.status, 125, early.stderr);
  t.regex(early.stderr, /starts at event/);
}

test.serial('four takeovers, each by a shadow that joined the running machine', async (t) => {
  const chain = new Chain(scratch(t));
  t.teardown(() => chain.kill());
  const random = printedRandom(t);
  const kills = 4;
  await chain.start(['--', ...AWK]);
  const addresses = Array.from({ length: kills + 2 }, (_, index) => chain.console(index));
  const client = await ConsoleClient.connect({ addresses });
  t.teardown(() => client.close());
  const typist = new Typist(client);
  for (let kill = 0; kill <= kills; kill++) {
    typist.type(random.between(5, 50), 'before');
    const side = chain.join();
    typist.type(random.between(5, 50), 'joining');
    await side;
    typist.type(random.between(5, 50), 'protected');
    await typist.answered(random.between(1, typist.lines.length));
    if (kill < kills) await chain.takeOver();
  }
  client.stdin.end();
  t.like(await client.ended, { reason: 'exited', status: 0 });
  t.is(typist.text, answers(typist.lines));
  t.is(await chain.live.end(), 'status 0');
  await replaysFromItsStart(t, chain.log(kills + 1));
  await replaysFromItsStart(t, chain.log(kills));
});

test.serial('a shadow killed while it joins changes nothing, and the next one can join', async (t) => {
  const chain = new Chain(scratch(t));
  t.teardown(() => chain.kill());
  await chain.start(['--', ...AWK]);
  const client = await ConsoleClient.connect({ addresses: [0, 1, 2, 3, 4, 5].map((i) => chain.console(i)) });
  t.teardown(() => client.close());
  const typist = new Typist(client);
  for (const fault of ['join-pages:1', 'join-pages:9', 'join-start:1', 'join-loaded:1']) {
    process.env.LOCKSTEP_FAULT = fault;
    const joining = chain.join();
    delete process.env.LOCKSTEP_FAULT;
    typist.type(20, fault);
    await t.throwsAsync(joining, undefined, fault);
    await typist.answered(typist.lines.length);
  }
  await chain.join();
  typist.type(20, 'protected');
  (chain.sides[0] as { kill(): void }).kill();
  await chain.live.notice('live');
  client.stdin.end();
  t.like(await client.ended, { reason: 'exited', status: 0 });
  t.is(typist.text, answers(typist.lines));
  t.is(await chain.live.end(), 'status 0');
});

test.serial('a shadow joins the pair that it is told to, and no other', async (t) => {
  const chain = new Chain(scratch(t));
  t.teardown(() => chain.kill());
  await chain.start(['--', ...AWK]);
  await t.throwsAsync(chain.join(['--pair', '0'.repeat(32)]), { message: /belongs to another pair/ });
  chain.sides.pop();
  while (chain.live.status.pairId === undefined) await once(chain.live, 'line');
  await chain.join(['--pair', String(chain.live.status.pairId)]);
  await chain.takeOver();
});

test.serial('a machine that moves from side to side answers every line once', async (t) => {
  const directory = scratch(t);
  const chain = new Chain(directory);
  t.teardown(() => chain.kill());
  const control = (index: number) => ['--control', join(directory, `${index}.control`)];
  await chain.start([...control(0), '--', ...AWK]);
  const moves = 3;
  const addresses = Array.from({ length: moves + 1 }, (_, index) => chain.console(index));
  const client = await ConsoleClient.connect({ addresses });
  t.teardown(() => client.close());
  const typist = new Typist(client);
  for (let move = 0; move < moves; move++) {
    typist.type(20, 'alone');
    const moving = run([
      move % 2 ? 'takeover' : 'migrate',
      ...(move % 2 ? [] : ['--timeout', '60000']),
      ...control(move),
    ]);
    if (move % 2) t.is((await moving).status, 125);
    await chain.join(control(move + 1));
    typist.type(20, 'moving');
    const { status, stderr } = await (move % 2 ? run(['takeover', ...control(move)]) : moving);
    t.is(status, 0, stderr);
    t.is(await chain.sides[move]?.end(), 'status 0');
    await chain.live.notice('live');
  }
  client.stdin.end();
  t.like(await client.ended, { reason: 'exited', status: 0 });
  t.is(typist.text, answers(typist.lines));
  t.is(await chain.live.end(), 'status 0');
});

test.serial('a shadow joins a program that only computes', async (t) => {
  const chain = new Chain(scratch(t));
  t.teardown(() => chain.kill());
  await chain.start(['--', '/bin/busybox', 'awk', 'BEGIN { for (;;) n++ }']);
  await chain.join();
  await chain.takeOver();
  await chain.join();
  await chain.takeOver();
  t.is((await chain.live.notice('live')).generation, 3);
});

test.serial('redis on a bridge: protected again, and killed again, under its clients', async (t) => {
  const random = printedRandom(t);
  for (let round = 0; round < times(2); round++) {
    const directory = scratch(t);
    const job: RejoinJob = {
      argv: redisServer(directory),
      directory,
      kills: 3,
      clients: 20,
      betweenMs: patience(random.between(50, 500)),
    };
    const report = await rejoinOnce(job);
    t.log(`${report.acknowledged} writes; ${report.states.join(' ')}`);
    t.deepEqual(report.troubles, []);
    t.is(report.missing, 0);
    t.is(report.survivor, 'status 0');
    for (const one of await replayKicked(join(directory, `${job.kills}.log`), 2, random))
      t.is(one.divergence, null, JSON.stringify(one));
  }
  t.false(existsSync('/sys/class/net/plug'));
});
