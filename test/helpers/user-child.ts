/**
 * A redis-server whose two sides go on as another user, on a bridge in a network namespace of this process's own: each in
 * turn stands still for so long that the other goes on, wakes, and starts over as its shadow. Takes a UserJob and prints a
 * UserReport.
 */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { SideProcess } from '../../lib/control/side-process.js';
import { ADDRESS, makeBridge, NET, waitForRedis } from './plug.js';
import { type ClientsReport, RedisClients } from './redis-clients.js';
import { rightsOnceChanged } from './threads-of.js';

export interface UserJob {
  /** Of the server. */
  argv: string[];
  /** The user's. */
  directory: string;
  user: string;
  clients: number;
}

export interface UserReport extends ClientsReport {
  survivor: string;
  /** Users and capabilities that the sides' threads had after they had started over. */
  rights: string[];
}

const { argv, directory, user, clients: count } = JSON.parse(process.argv[2] as string) as UserJob;

class Side {
  readonly process: SideProcess;
  readonly #seen: string[] = [];

  constructor(role: 'primary' | 'shadow', name: string, peer: string, more: string[] = []) {
    const at = (kind: string) => join(directory, kind);
    const args = [
      ...['--link', `unix:${at('link')}`, '--arbiter', `file:${at('arbiter')}`, '--net', NET],
      ...['--relink', `unix:${at(`${name}.link`)}`, '--rejoin', `unix:${at(`${peer}.link`)}`],
      ...['--console', `unix:${at(`${name}.console`)}`, '--control', at(`${name}.control`)],
      ...['--log', at(`${name}.log`), '--user', user],
    ];
    this.process = new SideProcess(role, [...args, ...more]);
    this.process.on('line', ({ event }) => this.#seen.push(event));
    process.once('exit', () => this.process.kill());
  }

  seen(event: string): number {
    return this.#seen.filter((one) => one === event).length;
  }

  async times(event: string, times: number): Promise<void> {
    while (this.seen(event) < times) {
      if (this.process.exited !== undefined)
        throw new Error(`${this.process.name} ended: ${this.process.exited} ${this.process.said}`);
      await sleep(10);
    }
  }

  signal(name: NodeJS.Signals): void {
    process.kill(this.process.pid, name);
  }
}

makeBridge();
const first = new Side('primary', 'a', 'b', ['--', ...argv]);
const second = new Side('shadow', 'b', 'a');
await Promise.all([first.times('armed', 1), second.times('armed', 1)]);
await waitForRedis();
const clients = await RedisClients.connect(ADDRESS, count);
clients.start();

async function work(): Promise<void> {
  const before = clients.acknowledged;
  for (let tries = 0; clients.acknowledged < before + 10 * count; tries++) {
    if (tries === 200) throw new Error('the clients are not served any more');
    await sleep(50);
  }
}

const rights = new Set<string>();
for (const [stopped, other] of [
  [first, second],
  [second, first],
] as const) {
  await work();
  stopped.signal('SIGSTOP');
  await other.times('live', 1);
  await work();
  const armed = stopped.seen('armed');
  stopped.signal('SIGCONT');
  await stopped.times('armed', armed + 1);
  rights.add(await rightsOnceChanged(stopped.process.pid));
}
await work();
// The one that is live has started over before, and so has its shadow.
first.process.kill();
await second.times('live', 2);
await work();
const report = await clients.finish();
execFileSync('redis-cli', ['-h', ADDRESS, 'shutdown', 'nosave']);
const survivor = await second.process.end();
console.log(JSON.stringify({ ...report, survivor, rights: [...rights] } satisfies UserReport));
