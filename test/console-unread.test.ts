/** A console that has no client: what happens to more output than a pair keeps. */
import { once } from 'node:events';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import test, { type ExecutionContext } from 'ava';
import { ConsoleClient } from '../lib/console-client.js';
import { Arbiter, Image, Primary } from '../lib/index.js';
import { scratch } from './helpers/command.js';
import { patience } from './helpers/pace.js';

const KEPT = 100_000;
const LINES = 100_000;
const SCRIPT = `BEGIN { for (i = 1; i <= ${LINES}; i++) print i } { print }`;
const WHOLE = `${Array.from({ length: LINES }, (_, i) => `${i + 1}\n`).join('')}over\n`;

/** A machine without a shadow that says more than is kept before its first client comes. */
async function speaker(t: ExecutionContext, unread?: 'forget' | 'stop'): Promise<[Primary, ConsoleClient]> {
  const directory = scratch(t);
  const side = await Primary.create(await Image.fromProgram({ argv: ['busybox', 'awk', SCRIPT] }), {
    link: `unix:${join(directory, 'link')}`,
    console: `unix:${join(directory, 'console')}`,
    arbiter: Arbiter.file(directory),
    alone: true,
    outputBytesMax: KEPT,
    unread,
  });
  t.teardown(() => side.close());
  const forgotten = once(side, 'unread', { signal: AbortSignal.timeout(patience(30_000)) });
  await side.start();
  if (unread === 'forget')
    t.regex((await forgotten)[0].detail, /^Of the console's output the last 100000 bytes/);
  else forgotten.catch(() => {});
  const client = await ConsoleClient.connect({ addresses: [`unix:${join(directory, 'console')}`] });
  client.stdin.end('over\n');
  return [side, client];
}

test('with "forget" the machine goes on, and a client that comes has the last of it', async (t) => {
  const [side, client] = await speaker(t, 'forget');
  const said = await text(client.stdout);
  t.is((await client.ended).status, 0);
  t.true(side.status()?.outputBytesForgotten !== 0);
  t.true(said.length >= KEPT / 2 && said.length < WHOLE.length);
  t.true(WHOLE.endsWith(said));
  await side.ended;
});

test('without a network card the default is to wait for a client, who has it all', async (t) => {
  const [side, client] = await speaker(t);
  t.is(await text(client.stdout), WHOLE);
  t.is(side.status()?.outputBytesForgotten, 0);
  await side.ended;
});
