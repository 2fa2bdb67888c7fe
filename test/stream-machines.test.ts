/** Snapshots and pairs whose memory is still on its way. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import {
  Arbiter,
  ConsoleClient,
  Image,
  Machine,
  Primary,
  publish,
  replay,
  Shadow,
  Stream,
} from '../lib/index.js';
import { drain, printedRandom, scratch } from './helpers/command.js';
import { makePublished } from './helpers/published.js';
import { FIXED, firstLine, serveSite, thinLine } from './helpers/streams.js';
import { TEN_MBIT } from './helpers/thin-line.js';

test('a snapshot goes on while it arrives, and ends where one does that was at hand', async (t) => {
  const directory = scratch(t);
  const made = await makePublished(directory, printedRandom(t), { files: 16 });
  const first = await Machine.create(made.image, { ...FIXED, stderr: 'ignore' });
  await first.start();
  t.is(await firstLine(first), 'ready\n');
  const path = join(directory, 'app.snapshot');
  const { digest } = await first.snapshot(path);
  await first.close();
  await publish(path, made.site);
  const line = await thinLine(t, (await serveSite(t, made)).url);
  const output = join(directory, 'got.snapshot');
  const log = join(directory, 'x.log');
  await using stream = await Stream.open(`${line.url}app.snapshot`, { output });
  const machine = await stream.createRecorded({ log, digestEvery: 1, stderr: 'ignore' });
  t.deepEqual(await machine.digest(), digest);
  t.is(stream.status.state, 'fetching');
  await machine.start();
  machine.stdin.write('go\n');
  t.is((await drain(machine.stdout)).toString(), made.answer);
  t.is((await machine.ended).status, 0);
  await machine.close();
  t.true(stream.status.demandFaults > 0);
  await stream.finished;
  t.true(readFileSync(output).equals(readFileSync(path)));
  const again = await replay(log, { image: await Image.open(output) });
  const { divergence, ended, digests } = await again.result;
  t.is(divergence, null);
  t.is(ended?.status, 0);
  t.true(digests.checked > 1);
  await again.close();
});

test('a shadow that streams the same image takes over in the midst of it', async (t) => {
  const directory = scratch(t);
  const made = await makePublished(directory, printedRandom(t), { files: 160 });
  // So thin, and the image so large, that most of it is not there yet when the shadow takes over.
  const line = await thinLine(t, (await serveSite(t, made)).url, TEN_MBIT / 2);
  const open = (output: string) => Stream.open(`${line.url}app.lsm`, { output: join(directory, output) });
  const [ours, theirs] = await Promise.all([open('a.lsm'), open('b.lsm')]);
  const address = (name: string) => `unix:${join(directory, name)}`;
  const common = { link: address('link'), arbiter: Arbiter.inProcess(), unread: 'stop' as const };
  const primary = await Primary.create(ours, { ...FIXED, ...common, console: address('p') });
  const shadow = await Shadow.create({ ...common, console: address('s'), stream: theirs });
  t.teardown(async () => {
    await Promise.all([primary.close(), shadow.close()]);
    await Promise.all([ours.close(), theirs.close()]);
  });
  await Promise.all([primary.start(), shadow.start()]);
  const client = await ConsoleClient.connect({ addresses: [address('p'), address('s')] });
  t.teardown(() => client.close());
  let text = '';
  client.stdout.on('data', (chunk) => {
    text += chunk;
  });
  while (text !== 'ready\n') await new Promise((again) => setTimeout(again, 5));
  t.is(theirs.status.state, 'fetching');
  client.stdin.write('go\n');
  while (text.split('\n').length < 4) await new Promise((again) => setTimeout(again, 5));
  t.is(theirs.status.state, 'fetching');
  line.bytesPerSecond = 8 * TEN_MBIT;
  await Promise.all([primary.close(), ours.close()]);
  t.is((await client.ended).status, 0);
  t.is(text, `ready\n${made.answer}`);
});

test('a side whose image has arrived takes a shadow that streams nothing', async (t) => {
  const directory = scratch(t);
  const made = await makePublished(directory, printedRandom(t), { files: 16 });
  const line = await thinLine(t, (await serveSite(t, made)).url, TEN_MBIT / 10);
  const stream = await Stream.open(`${line.url}app.lsm`, { output: join(directory, 'a.lsm') });
  const address = (name: string) => `unix:${join(directory, name)}`;
  const common = { link: address('link'), arbiter: Arbiter.inProcess(), unread: 'stop' as const };
  const [p, s] = [address('p'), address('s')];
  line.bytesPerSecond = TEN_MBIT;
  const primary = await Primary.create(stream, { ...FIXED, ...common, console: p, alone: true });
  t.teardown(() => primary.close());
  t.teardown(() => stream.close());
  await primary.start();
  const client = await ConsoleClient.connect({ addresses: [p, s] });
  t.teardown(() => client.close());
  t.is(await firstLine(client), 'ready\n');
  t.is(stream.status.state, 'fetching');
  const log = join(directory, 's.log');
  const shadow = () => Shadow.create({ ...common, console: s, log, force: true });
  const early = await shadow();
  await t.throwsAsync(early.start(), { code: 'ERR_LOCKSTEP_LINK_REFUSED', message: /on its way/ });
  await early.close();
  line.bytesPerSecond = 100 * TEN_MBIT;
  await stream.finished;
  // The last pages may still be copied into its memory.
  let joined = await shadow();
  for (let tries = 0; ; tries++) {
    try {
      await joined.start();
      break;
    } catch (error) {
      await joined.close();
      if (tries === 600) throw error;
      await new Promise((again) => setTimeout(again, 50));
      joined = await shadow();
    }
  }
  t.teardown(() => joined.close());
  while (!primary.status()?.protected) await new Promise((again) => setTimeout(again, 5));
  await primary.close();
  client.stdin.write('go\n');
  t.is((await drain(client.stdout)).toString(), made.answer);
  t.is((await client.ended).status, 0);
  const again = await replay(log);
  t.is((await again.result).divergence, null);
  await again.close();
});
