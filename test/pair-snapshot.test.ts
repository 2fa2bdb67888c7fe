/** A pair whose primary goes on from a snapshot: takeovers, shadows that join later, and all their logs. */
import { join } from 'node:path';
import test from 'ava';
import { Arbiter, ConsoleClient, Image, Machine, Primary, replay, Shadow } from '../lib/index.js';
import { awkImage, lines, talk } from './helpers/awk-machine.js';
import { scratch } from './helpers/command.js';

test.serial('a primary from a snapshot, its shadow, and the shadow after that', async (t) => {
  const directory = scratch(t);
  const at = (name: string) => join(directory, name);
  const first = await Machine.create(await awkImage());
  await first.start();
  await talk(first)('a');
  await first.snapshot(at('snapshot'));
  await first.close();

  const consoles = [1, 2, 3].map((n) => `unix:${at(`console${n}`)}`);
  const arbiter = Arbiter.file(at('arbiter'));
  const side = (n: number) => ({
    link: `unix:${at('link')}`,
    console: consoles[n] as string,
    arbiter,
    log: at(`${n}.log`),
    digestEvery: 1,
  });
  await using primary = await Primary.create(await Image.open(at('snapshot')), side(0));
  await using second = await Shadow.create(side(1));
  const protectedFirst = new Promise((resolve) => primary.once('armed', resolve));
  await Promise.all([primary.start(), second.start(), protectedFirst]);
  await using client = await ConsoleClient.connect({ addresses: consoles });
  const read = lines(client.stdout);
  const say = (line: string) => client.stdin.write(`${line}\n`);
  say('b');
  t.deepEqual(await read(1), ['2 a b']);

  await using third = await Shadow.create(side(2));
  const live = new Promise((resolve) => second.once('live', resolve));
  await primary.close();
  await live;
  say('c');
  t.deepEqual(await read(2), ['2 a b', '3 b c']);
  const protectedAgain = new Promise((resolve) => second.once('armed', resolve));
  await Promise.all([third.start(), protectedAgain]);
  say('d');
  t.is((await read(3))[2], '4 c d');
  const liveAgain = new Promise((resolve) => third.once('live', resolve));
  await second.close();
  await liveAgain;
  say('e');
  t.is((await read(4))[3], '5 d e');
  client.stdin.end();
  t.like(await third.ended, { reason: 'exited', status: 0 });
  await third.close();

  const heard = [['2 a b'], ['2 a b', '3 b c', '4 c d'], ['4 c d', '5 d e']];
  for (const [n, text] of heard.entries()) {
    await using replaying = await replay(at(`${n}.log`), { stdout: 'stream' });
    const said = lines(replaying.machine.stdout);
    const result = await replaying.result;
    t.is(result.divergence, null, `log ${n}`);
    t.true(result.digests.checked > 0);
    t.deepEqual((await said(text.length)).slice(-text.length), text, `log ${n}`);
  }
});
