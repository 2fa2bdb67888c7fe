/**
 * A primary and its shadow, mirrored over a socket, and a console that does not care which of them answers.
 * Half way the primary's process is killed; the shadow carries on where it stood.
 *
 *   npx tsx examples/spawn-pair.ts
 */
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Arbiter, ConsoleClient, Shadow } from 'lockstep';

const directory = await mkdtemp(join(tmpdir(), 'lockstep-pair-'));
const link = `unix:${directory}/link`;
const consoles = [`unix:${directory}/primary`, `unix:${directory}/shadow`];

// The primary is a process of its own, so that it can be killed; here it is the command line.
const sides = ['--link', link, '--console', consoles[0] as string, '--arbiter', `file:${directory}/arbiter`];
const program = 'n=0; while read -r line; do n=$((n + 1)); echo "$n: $line"; done';
const lockstep = fileURLToPath(new URL('../bin/lockstep.js', import.meta.url));
const primary = spawn(lockstep, ['primary', ...sides, '--', 'busybox', 'sh', '-c', program]);

// The shadow lives here. It wins the arbiter when the primary is lost, and only then faces the world.
const arbiter = Arbiter.file(`${directory}/arbiter`);
await using shadow = await Shadow.create({ link, console: consoles[1] as string, arbiter });
shadow.on('armed', () => console.log('the pair is protected'));
shadow.on('live', ({ generation }) => console.log(`the shadow is live, generation ${generation}`));
await shadow.start();

await using client = await ConsoleClient.connect({ addresses: consoles });
client.on('pause', ({ durationMs }) => console.log(`nobody answered for ${durationMs.toFixed(1)} ms`));
const answers = createInterface({ input: client.stdout })[Symbol.asyncIterator]();

for (let line = 1; line <= 20; line++) {
  if (line === 11) primary.kill('SIGKILL');
  client.stdin.write(`line ${line}\n`);
  const { value: answer } = await answers.next();
  console.log(answer);
  if (answer !== `${line}: line ${line}`) throw new Error('an answer is missing, twice, or wrong');
}

client.stdin.end();
const { status } = await client.ended;
console.log(`20 lines, 20 answers, exit status ${status}`);
await rm(directory, { recursive: true });
