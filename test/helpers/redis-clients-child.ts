/**
 * The clients of redis in a process of their own, on whatever host it was started: does what the lines of its input
 * say, and answers each by a line. Takes a ClientsJob.
 */
import { createInterface } from 'node:readline';
import { waitForRedis } from './plug.js';
import { Random } from './random.js';
import { RedisClients } from './redis-clients.js';

export interface ClientsJob {
  host: string;
  clients: number;
  /** How long a client waits with its next write, at most. */
  thinkMsMax: number;
  seed: number;
}

export type ClientsCommand =
  | { do: 'watch' }
  | { do: 'pause'; failedUs: number; survivorUs: number }
  | { do: 'check' }
  | { do: 'finish' };

const job = JSON.parse(process.argv[2] as string) as ClientsJob;
const random = new Random(job.seed);
const say = (answer: unknown) => console.log(JSON.stringify(answer));

await waitForRedis(job.host);
const clients = await RedisClients.connect(job.host, job.clients, () => random.between(0, job.thinkMsMax));
clients.start();
say({});

async function obey(command: ClientsCommand): Promise<unknown> {
  switch (command.do) {
    case 'watch':
      clients.watch();
      return {};
    case 'pause':
      return await clients.pause(command.failedUs, command.survivorUs);
    case 'check':
      return { missing: await clients.recentMissing(), troubles: clients.troubles };
    case 'finish':
      return await clients.finish();
  }
}

for await (const line of createInterface({ input: process.stdin }))
  say(await obey(JSON.parse(line) as ClientsCommand));
