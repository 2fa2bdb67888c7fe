/**
 * Records Debian's redis-server, as it is, in a machine with a network card while we talk to it over TCP, and
 * relives the recording: every packet it sent comes again, byte for byte.
 *
 *   sudo npx tsx examples/record-redis.ts [/path/to/redis-server]      (the TAP interface needs root)
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Image, record, replay } from 'lockstep';

const directory = await mkdtemp(join(tmpdir(), 'lockstep-'));
const log = join(directory, 'redis.log');
const server = process.argv[2] ?? 'redis-server';
const image = await Image.fromProgram({
  argv: [server, '--save', '', '--appendonly', 'no', '--protected-mode', 'no'],
});

{
  // The host is 10.0.2.2 on an interface that lives as long as the machine, and the machine 10.0.2.15.
  await using machine = await record(image, { log, net: { tap: true }, stdin: 'ignore' });
  for await (const line of createInterface({ input: machine.stdout })) {
    if (line.includes('Ready to accept connections')) break;
  }
  machine.stdout.resume();
  const client = connect(6379, '10.0.2.15');
  const replies = createInterface({ input: client })[Symbol.asyncIterator]();
  for (const request of ['PING', 'SET answer 42', 'INCR answer', 'GET answer']) {
    client.write(`${request}\r\n`);
    const { value: reply } = await replies.next();
    console.log(`${request}: ${reply}`);
  }
  client.end('SHUTDOWN NOSAVE\r\n');
  const { status } = await machine.ended;
  client.destroy(); // the machine is gone, and its end of the connection with it
  const { netFramesIn, netFramesOut } = machine.stats();
  console.log(`recorded: exit status ${status}, ${netFramesIn} frames in, ${netFramesOut} out`);
}

{
  await using replaying = await replay(log);
  const { digests, divergence } = await replaying.result;
  console.log(`replayed: ${digests.checked} digests ${divergence ? 'differ' : 'equal'}`);
}

await rm(directory, { recursive: true });
