/**
 * Publishes a program with files that nobody needs at its start, then starts it on "another machine", which has
 * nothing of it, over a web server: it answers while most of its bytes are still on their way.
 *
 *   npx tsx examples/stream-app.ts
 */
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Image, publish, Stream, serve } from 'lockstep';

const directory = await mkdtemp(join(tmpdir(), 'lockstep-'));
const documents = join(directory, 'documents');
await mkdir(documents);
for (let i = 0; i < 16; i++) await writeFile(join(documents, `${i}`), randomBytes(1 << 20));

// Debian's busybox, as it is: its bc answers every line.
const image = await Image.fromProgram({
  argv: ['busybox', 'bc'],
  files: [{ host: documents, guest: '/documents' }],
});
await image.write(join(directory, 'app.lsm'));
const { blocks } = await publish(join(directory, 'app.lsm'), join(directory, 'site'));
await using server = await serve(join(directory, 'site'));
console.log(`published: ${blocks} blocks`);

{
  await using stream = await Stream.open(`${server.url}app.lsm`, { output: join(directory, 'here.lsm') });
  await using machine = await stream.createMachine();
  await machine.start();
  const answers = createInterface({ input: machine.stdout })[Symbol.asyncIterator]();
  machine.stdin.write('2^64\n');
  const { value: answer } = await answers.next();
  const { bytes, bytesTotal, demandFaults } = stream.status;
  console.log(`2^64 = ${answer}`);
  console.log(
    `at that time ${Math.round((100 * bytes) / bytesTotal)}% was here, ${demandFaults} blocks were waited for`,
  );
  for await (const { state, trouble } of stream.progress()) if (trouble) console.log(`${state}: ${trouble}`);
  await stream.finished;
  machine.stdin.end();
  console.log(`whole: ${stream.status.state}, exit status ${(await machine.ended).status}`);
}

{
  // Nothing needs the server any more.
  await server.close();
  const whole = await Image.open(join(directory, 'here.lsm'));
  console.log(`the same image: ${(await whole.inspect()).sha256 === (await image.inspect()).sha256}`);
}

await rm(directory, { recursive: true });
