/** Records redis-server, kicked at random, while redis-benchmark's 50 clients ask for so long; in a network namespace of its own. */
import { execFileSync } from 'node:child_process';
import { createInterface } from 'node:readline';
import { Image, record } from '../../lib/index.js';
import { kickRate } from './pace.js';

export interface RedisRecording {
  /** Of the server. */
  argv: string[];
  log: string;
  seconds: number;
  seed: number;
}

const ADDRESS = '10.0.2.15';
const TESTS = 'ping,set,get,incr,lpush,rpop,sadd,hset,zadd,lrange_100,mset';

const { argv, log, seconds, seed } = JSON.parse(process.argv[2] as string) as RedisRecording;
const image = await Image.fromProgram({ argv });
const kicks = { perSecond: kickRate(500), seed };
const machine = await record(image, { log, kicks, net: { tap: true }, stdin: 'ignore' });
machine.stderr.resume();
for await (const line of createInterface({ input: machine.stdout }))
  if (line.includes('Ready to accept connections')) break;
machine.stdout.resume();

const end = performance.now() + seconds * 1000;
let requests = 0;
for (let pipeline = 1; performance.now() < end; pipeline = 17 - pipeline) {
  // About four seconds of a quiet machine.
  const count = 20_000 * (pipeline === 1 ? 1 : 4);
  const load = ['-c', '50', '-n', `${count}`, '-P', `${pipeline}`, '-r', '10000', '-t', TESTS];
  execFileSync('redis-benchmark', ['-h', ADDRESS, ...load, '-q'], { stdio: ['ignore', 'ignore', 'inherit'] });
  requests += count * TESTS.split(',').length;
}
const stats = machine.stats();
execFileSync('redis-cli', ['-h', ADDRESS, 'shutdown', 'nosave']);
const { status } = await machine.ended;
await machine.close();
console.log(JSON.stringify({ status, requests, kicks: stats.kicks, frames: stats.netFramesOut }));
