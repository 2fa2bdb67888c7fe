/**
 * Records an unmodified program while it talks to us, then relives the recording: first all of it, checking
 * every digest, then up to one event, to look inside.
 *
 *   npx tsx examples/record-and-replay.ts
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Image, record, replay } from 'lockstep';

const directory = await mkdtemp(join(tmpdir(), 'lockstep-'));
const log = join(directory, 'bc.log');

// Debian's busybox, as it is: its bc answers every line.
const image = await Image.fromProgram({ argv: ['busybox', 'bc', '-l'] });

{
  await using machine = await record(image, { log, digestEvery: 1 });
  const answers = createInterface({ input: machine.stdout })[Symbol.asyncIterator]();
  for (const question of ['2^64', 'scale=30; 4*a(1)', 'sqrt(2)']) {
    machine.stdin.write(`${question}\n`);
    const { value: answer } = await answers.next();
    console.log(`${question} = ${answer}`);
  }
  machine.stdin.end();
  const { status } = await machine.ended;
  console.log(`recorded: ${machine.stats().events} events, exit status ${status}`);
}

{
  await using replaying = await replay(log);
  const { events, digests, divergence } = await replaying.result;
  console.log(`replayed: ${events} events, ${digests.checked} digests ${divergence ? 'differ' : 'equal'}`);
}

{
  await using replaying = await replay(log, { stopAtEvent: 2 });
  await replaying.stopped;
  const { rip } = replaying.machine.registers();
  console.log(`after event 2 the processor stood at 0x${rip?.toString(16)}`);
}

await rm(directory, { recursive: true });
