import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { ConsoleClient } from '../lib/console-client.js';
import { fakePair } from './helpers/fake-console.js';

/** A pair, and a client that the primary has welcomed. */
async function connected(t: ExecutionContext, welcome = {}) {
  const pair = fakePair();
  const connecting = ConsoleClient.connect({ addresses: pair.addresses, unreachableMs: 2000 });
  await Promise.all([pair.primary.expect(0x01), pair.shadow.expect(0x01)]);
  pair.primary.welcome(welcome);
  const client = await connecting;
  t.teardown(async () => {
    await client.close();
    pair.remove();
  });
  return { ...pair, client };
}

async function readBytes(stream: NodeJS.ReadableStream, bytes: number): Promise<string> {
  let text = '';
  while (text.length < bytes) {
    text += stream.read() ?? '';
    if (text.length < bytes) await once(stream, 'readable');
  }
  return text;
}

test('passes bytes both ways and acknowledges what was read', async (t) => {
  const { primary, client } = await connected(t);
  client.stdin.write('hello\n');
  t.deepEqual(await primary.input(6), { offset: 0, text: 'hello\n' });
  primary.output(0, 'world\n');
  t.is(await readBytes(client.stdout, 6), 'world\n');
  t.is(Number((await primary.expect(0x02)).readBigUInt64LE(1)), 6);
});

test('goes over to the side that takes over: nothing lost, repeated or sent twice', async (t) => {
  const { primary, shadow, client } = await connected(t);
  client.resize(40, 100);
  t.deepEqual(await primary.expect(0x06), Buffer.of(40, 0, 100, 0));
  client.stdin.write('one\ntwo\n');
  await primary.input(8);
  primary.inputAck(4);
  primary.output(0, 'ONE\n');
  t.is(await readBytes(client.stdout, 4), 'ONE\n');
  const paused = once(client, 'pause');
  primary.die();
  await once(client, 'lost');
  client.stdin.write('three\n');
  shadow.welcome({ generation: 2, input: 4, output: [[0, 0]] });
  t.deepEqual(await shadow.expect(0x06), Buffer.of(40, 0, 100, 0));
  t.deepEqual(await shadow.input(10), { offset: 4, text: 'two\nthree\n' });
  shadow.output(0, 'ONE\nTWO\n');
  t.is(await readBytes(client.stdout, 4), 'TWO\n');
  t.is(client.repeatedBytes, 4);
  const [pause] = await paused;
  t.is(pause.generation, 2);
  t.true(pause.lostUs <= pause.welcomedUs && pause.welcomedUs <= pause.resumedUs);
});

test('a repeat that differs is an error', async (t) => {
  const { primary, shadow, client } = await connected(t);
  primary.output(0, 'truth');
  await readBytes(client.stdout, 5);
  primary.die();
  await once(client, 'lost');
  shadow.welcome({ generation: 2, output: [[0, 0]] });
  shadow.output(0, 'lies!');
  await t.throwsAsync(client.ended, { code: 'ERR_LOCKSTEP_CONSOLE_MISMATCH' });
});

test('what is no longer kept is told, and the rest follows', async (t) => {
  const { primary, shadow, client } = await connected(t);
  primary.output(0, 'first');
  await readBytes(client.stdout, 5);
  const gone = once(client, 'gone');
  primary.die();
  await once(client, 'lost');
  shadow.welcome({ generation: 2, output: [[0, 12]] });
  shadow.output(12, 'last');
  t.deepEqual(await gone, [{ channel: 0, bytes: 7 }]);
  t.is(await readBytes(client.stdout, 4), 'last');
});

test('missing output is an error', async (t) => {
  const { primary, client } = await connected(t);
  primary.output(3, 'late');
  await t.throwsAsync(client.ended, { code: 'ERR_LOCKSTEP_CONSOLE_MISMATCH' });
});

test('a side with less input than was acknowledged is an error', async (t) => {
  const { primary, shadow, client } = await connected(t);
  client.stdin.write('abc');
  await primary.input(3);
  primary.inputAck(3);
  primary.output(0, 'x');
  await readBytes(client.stdout, 1);
  primary.die();
  await once(client, 'lost');
  shadow.welcome({ generation: 2, input: 1 });
  await t.throwsAsync(client.ended, { code: 'ERR_LOCKSTEP_CONSOLE_MISMATCH' });
});

test('a side that was fenced off while it slept is not listened to', async (t) => {
  const { primary, shadow, client } = await connected(t);
  shadow.welcome({ generation: 2 });
  await once(client, 'live');
  shadow.output(0, 'new');
  t.is(await readBytes(client.stdout, 3), 'new');
  await primary.expect(0x01);
  primary.welcome({ generation: 1 });
  primary.output(0, 'old');
  await sleep(50);
  shadow.output(3, '!');
  t.is(await readBytes(client.stdout, 1), '!');
});

test('ends when all output is here, and only then', async (t) => {
  const { primary, client } = await connected(t);
  client.stdin.end();
  await primary.expect(0x04);
  primary.inputAck(0, true);
  primary.output(0, 'bye');
  primary.ended(7, [
    [0, 3],
    [1, 0],
  ]);
  t.deepEqual(await client.ended, { reason: 'exited', status: 7, detail: '' });
  t.is(await readBytes(client.stdout, 3), 'bye');
  client.stdout.resume();
  await once(client.stdout, 'end');
});

test('an end before all output is an error', async (t) => {
  const { primary, client } = await connected(t);
  primary.output(0, 'by');
  primary.ended(0, [[0, 3]]);
  await t.throwsAsync(client.ended, { code: 'ERR_LOCKSTEP_CONSOLE_MISMATCH' });
});

test('writers wait while the pair takes no input', async (t) => {
  const { primary, client } = await connected(t, { window: 10 });
  let taken = 0;
  client.stdin.write('a'.repeat(10), () => taken++);
  client.stdin.write('b'.repeat(10), () => taken++);
  await primary.input(10);
  await sleep(20);
  t.is(taken, 0);
  primary.inputAck(10);
  t.deepEqual(await primary.input(10), { offset: 10, text: 'b'.repeat(10) });
  primary.inputAck(20);
  await sleep(20);
  t.is(taken, 2);
});

test('output that nobody reads is not acknowledged', async (t) => {
  const { primary, client } = await connected(t);
  let acknowledged = 0;
  void (async () => {
    for (;;) acknowledged = Number((await primary.expect(0x02)).readBigUInt64LE(1));
  })();
  const chunk = 'x'.repeat(32 * 1024);
  for (let at = 0; at < 8; at++) primary.output(at * chunk.length, chunk);
  await sleep(50);
  t.true(acknowledged < 8 * chunk.length);
  await readBytes(client.stdout, 8 * chunk.length);
  await sleep(50);
  t.is(acknowledged, 8 * chunk.length);
});

test('a newer client, damage and silence end it with what happened', async (t) => {
  const replaced = await connected(t);
  replaced.primary.error('ERR_LOCKSTEP_CONSOLE_REPLACED');
  await t.throwsAsync(replaced.client.ended, { code: 'ERR_LOCKSTEP_CONSOLE_REPLACED' });

  const damaged = await connected(t);
  damaged.primary.send(0x99, []);
  await t.throwsAsync(damaged.client.ended, { code: 'ERR_LOCKSTEP_CONSOLE_PROTOCOL' });

  const pair = fakePair();
  pair.remove();
  await t.throwsAsync(ConsoleClient.connect({ addresses: pair.addresses, unreachableMs: 100 }), {
    code: 'ERR_LOCKSTEP_CONSOLE_UNREACHABLE',
  });
});

test('connecting can be abandoned, and closing is idempotent', async (t) => {
  const pair = fakePair();
  t.teardown(pair.remove);
  const signal = AbortSignal.timeout(50);
  await t.throwsAsync(ConsoleClient.connect({ addresses: pair.addresses, signal }), { name: 'AbortError' });
  const { client } = await connected(t);
  await Promise.all([client.close(), client.close()]);
  await t.throwsAsync(client.ended, { code: 'ERR_LOCKSTEP_STATE' });
});

test('bad addresses are refused', async (t) => {
  for (const address of ['', 'unix:', 'tcp:host', 'tcp:host:70000', '/path']) {
    await t.throwsAsync(ConsoleClient.connect({ addresses: [address] }), {
      code: 'ERR_LOCKSTEP_ADDRESS_INVALID',
    });
  }
  await t.throwsAsync(ConsoleClient.connect({ addresses: [] }), { code: 'ERR_LOCKSTEP_INVALID_ARGUMENT' });
});
