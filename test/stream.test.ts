/** Machines that start before the download of their image ends. */
import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import test from 'ava';
import { Image, Machine, replay, Stream, type StreamProgress, serve } from '../lib/index.js';
import { drain, printedRandom, run, scratch } from './helpers/command.js';
import { makePublished } from './helpers/published.js';
import { Random } from './helpers/random.js';
import { FIXED, firstLine, serveSite, thinLine, until } from './helpers/streams.js';
import { TEN_MBIT } from './helpers/thin-line.js';

test('a program answers while its image is on its way, and the image is whole at the end', async (t) => {
  const directory = scratch(t);
  const made = await makePublished(directory, printedRandom(t));
  const line = await thinLine(t, (await serveSite(t, made)).url, TEN_MBIT / 2);
  const output = join(directory, 'got.lsm');
  const stream = await Stream.open(`${line.url}app.lsm`, { output });
  t.teardown(() => stream.close());
  const machine = await stream.createMachine({ ...FIXED, stderr: 'ignore' });
  const local = await Machine.create(made.image, { ...FIXED, stderr: 'ignore' });
  t.deepEqual(await machine.digest(), await local.digest());
  await local.close();
  await machine.start();
  t.is(await firstLine(machine), 'ready\n');
  const { bytes, bytesTotal, state } = stream.status;
  t.is(state, 'fetching');
  t.true(bytes < bytesTotal);
  machine.stdin.write('go\n');
  const rest = (await drain(machine.stdout)).toString();
  t.is((await machine.ended).status, 0);
  t.is(rest, made.answer);
  t.true(stream.status.demandFaults > 0);
  await stream.finished;
  t.is(stream.status.state, 'whole');
  t.true(readFileSync(output).equals(readFileSync(made.path)));
  await machine.close();
});

test('a recording that was made while its image arrived replays, digest by digest', async (t) => {
  const directory = scratch(t);
  const made = await makePublished(directory, printedRandom(t));
  const line = await thinLine(t, (await serveSite(t, made)).url, 4 * TEN_MBIT);
  const output = join(directory, 'got.lsm');
  const log = join(directory, 'x.log');
  await using stream = await Stream.open(`${line.url}app.lsm`, { output });
  const machine = await stream.createRecorded({ ...FIXED, log, digestEvery: 1, stderr: 'ignore' });
  await machine.start();
  t.is(await firstLine(machine), 'ready\n');
  t.true(machine.stats().digests > 0);
  t.is(stream.status.state, 'fetching');
  machine.stdin.write('go\n');
  t.is((await drain(machine.stdout)).toString(), made.answer);
  t.is((await machine.ended).status, 0);
  await machine.close();
  await stream.finished;
  const again = await replay(log, { image: (await Image.open(output)).bytes });
  const { divergence, ended, digests } = await again.result;
  t.is(divergence, null);
  t.is(ended?.status, 0);
  t.true(digests.checked > 2);
  await again.close();
});

test('a machine whose server is gone stands still until a mirror is there', async (t) => {
  const directory = scratch(t);
  const made = await makePublished(directory, printedRandom(t));
  const first = await serveSite(t, made);
  const line = await thinLine(t, first.url, TEN_MBIT / 4);
  const output = join(directory, 'got.lsm');
  await using stream = await Stream.open(`${line.url}app.lsm`, { output, stallMs: 300 });
  const machine = await stream.createMachine({ ...FIXED, stderr: 'ignore' });
  await machine.start();
  t.is(await firstLine(machine), 'ready\n');
  await first.close();
  line.cut();
  machine.stdin.write('go\n');
  const waiting = await until(stream, ({ state }) => state === 'waiting');
  t.regex(waiting.trouble ?? '', /app\.lsm: /);
  t.is(machine.state, 'running');
  const second = await serve(made.site);
  t.teardown(() => second.close());
  line.port = Number(new URL(second.url).port);
  t.is((await drain(machine.stdout)).toString(), made.answer);
  await machine.close();
  await stream.finished;
  t.true(readFileSync(output).equals(readFileSync(made.path)));
});

test('a machine that stands still can be closed, and its recording ends cleanly', async (t) => {
  const directory = scratch(t);
  const made = await makePublished(directory, printedRandom(t));
  const server = await serveSite(t, made);
  const line = await thinLine(t, server.url, TEN_MBIT / 8);
  const log = join(directory, 'x.log');
  const stream = await Stream.open(`${line.url}app.lsm`, { output: join(directory, 'got.lsm') });
  const machine = await stream.createRecorded({ ...FIXED, log, digestEvery: 1, stderr: 'ignore' });
  await machine.start();
  t.is(await firstLine(machine), 'ready\n');
  await server.close();
  line.cut();
  machine.stdin.write('go\n');
  await until(stream, ({ waitedFor }) => waitedFor > 0);
  await machine.close();
  await stream.close();
  await t.throwsAsync(stream.finished, { code: 'ERR_LOCKSTEP_CLOSED' });
  const again = await replay(log, { image: made.image.bytes });
  const { divergence, digests } = await again.result;
  t.is(divergence, null);
  t.true(digests.checked > 0);
  await again.close();
});

test('what is damaged is fetched from another mirror, and where there is none refused by name', async (t) => {
  const directory = scratch(t);
  const random = printedRandom(t);
  const made = await makePublished(directory, random, { files: 8 });
  const good = await serveSite(t, made);
  const bad = await thinLine(t, good.url, 16 * TEN_MBIT);
  const stream = await Stream.open(`${bad.url}app.lsm`, { output: join(directory, 'a.lsm') });
  let passed = 0;
  const every = random.between(20_000, 60_000);
  // From here on, every so many bytes.
  bad.damage = (bytes) => {
    for (let at = every - (passed % every); at < bytes.length; at += every)
      bytes[at] = (bytes[at] ?? 0) ^ 0x10;
    passed += bytes.length;
  };
  const failure = await t.throwsAsync(stream.finished, { code: 'ERR_LOCKSTEP_STREAM_DAMAGED' });
  t.regex(failure.message, /block \d+ of .*app\.lsm is damaged wherever .* of packs\/[0-9a-f]{32}\.pack/);
  t.is(stream.status.state, 'failed');

  bad.damage = undefined;
  const output = join(directory, 'b.lsm');
  const second = await Stream.open(`${bad.url}app.lsm`, { output, mirrors: [`${good.url}app.lsm`] });
  let damages = 3;
  bad.damage = (bytes) => {
    if (bytes.length > 100 && damages-- > 0) bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
  };
  await second.finished;
  t.true(readFileSync(output).equals(readFileSync(made.path)));
});

test('a manifest with any bit flipped is refused', async (t) => {
  const directory = scratch(t);
  const random = printedRandom(t);
  const made = await makePublished(directory, random, { files: 2 });
  const path = join(made.site, 'app.lsm');
  const right = readFileSync(path);
  for (let i = 0; i < 40; i++) {
    const wrong = Buffer.from(right);
    const at = random.between(0, wrong.length - 1);
    wrong[at] = (wrong[at] ?? 0) ^ (1 << random.between(0, 7));
    writeFileSync(path, wrong);
    await t.throwsAsync(
      Stream.open(path, { output: join(directory, 'got.lsm') }),
      { code: 'ERR_LOCKSTEP_STREAM_DAMAGED' },
      `byte ${at}`,
    );
  }
});

test('a new version writes, and fetches, what changed', async (t) => {
  const directory = scratch(t);
  const random = printedRandom(t);
  const { seed } = random;
  const made = await makePublished(directory, random);
  const output = join(directory, 'got.lsm');
  await using first = await Stream.open(join(made.site, 'app.lsm'), { output });
  await first.finished;
  const all = first.status.bytesTotal;
  // The same size, other bytes.
  const change = (index: number, content: Buffer) => {
    if (index === 5) content.fill(1, 1000, 2000);
  };
  const next = await makePublished(directory, new Random(seed), { change });
  t.not(next.published.sha256, made.published.sha256);
  t.true(next.published.bytesWritten < all / 5, `${next.published.bytesWritten} of ${all} written`);
  await using second = await Stream.open(join(next.site, 'app.lsm'), { output });
  await second.finished;
  t.true(second.status.bytesReceived < all / 5, `${second.status.bytesReceived} of ${all} fetched`);
  t.true(readFileSync(output).equals(readFileSync(next.path)));
});

test('an image of another identity is not started', async (t) => {
  const directory = scratch(t);
  const made = await makePublished(directory, printedRandom(t), { files: 1 });
  const open = (sha256: string) =>
    Stream.open(join(made.site, 'app.lsm'), { output: join(directory, 'got.lsm'), sha256 });
  await t.throwsAsync(open('0'.repeat(64)), { code: 'ERR_LOCKSTEP_STREAM_OTHER' });
  await t.throwsAsync(open('0'), { code: 'ERR_LOCKSTEP_INVALID_ARGUMENT' });
  await using stream = await open(made.published.sha256);
  await stream.finished;
  t.is(stream.status.state, 'whole');
});

test('a server that knows no ranges serves as well', async (t) => {
  const directory = scratch(t);
  const made = await makePublished(directory, printedRandom(t), { files: 8 });
  const server = createServer((request, response) =>
    response.end(readFileSync(join(made.site, request.url ?? ''))),
  );
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  t.teardown(() => server.close());
  const output = join(directory, 'got.lsm');
  const { port } = server.address() as AddressInfo;
  await using stream = await Stream.open(`http://127.0.0.1:${port}/app.lsm`, { output });
  await stream.finished;
  t.true(readFileSync(output).equals(readFileSync(made.path)));
});

test('lockstep publish, stream: a program answers, and its image is left whole', async (t) => {
  const directory = scratch(t);
  const made = await makePublished(directory, printedRandom(t), { files: 4 });
  rmSync(made.site, { recursive: true });
  const published = await run(['publish', made.path, made.site]);
  t.is(published.status, 0, published.stderr);
  t.deepEqual((await readdir(made.site)).sort(), ['app.lsm', 'packs']);
  const { url } = await serveSite(t, made);
  const streamed = await run(['stream', `${url}app.lsm`, '--json'], { input: 'go\n', cwd: directory });
  t.is(streamed.status, 0, streamed.stderr);
  t.is(streamed.stdout.toString(), `ready\n${made.answer}`);
  const last = JSON.parse(streamed.stderr.trim().split('\n').at(-1) ?? '') as StreamProgress & {
    event: string;
  };
  t.is(last.event, 'stream');
  t.is(last.state, 'whole');
  t.is(last.bytes, last.bytesTotal);
});

test('lockstep stream --user goes on as that user, to the end', async (t) => {
  const directory = scratch(t);
  const made = await makePublished(directory, printedRandom(t), { files: 4 });
  const home = join(directory, 'home');
  mkdirSync(home, { mode: 0o755 });
  const argv = ['stream', join(made.site, 'app.lsm'), '-o', join(home, 'got.lsm'), '--user', 'nobody'];
  const refused = await run(argv, { input: 'go\n' });
  t.is(refused.status, 125);
  t.regex(refused.stderr, /--user nobody cannot write to .*home, and the image gets its name there/);
  for (const path of [directory, made.site, join(made.site, 'packs')]) chmodSync(path, 0o755);
  const uid = Number(execFileSync('id', ['-u', 'nobody']));
  chownSync(home, uid, 0);
  const streamed = await run(argv, { input: 'go\n' });
  t.is(streamed.status, 0, streamed.stderr);
  t.is(streamed.stdout.toString(), `ready\n${made.answer}`);
  t.is(statSync(join(home, 'got.lsm')).uid, uid);
});
