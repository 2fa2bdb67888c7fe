/** A process of its own for what must leave nothing behind: `lifecycle-child.ts SCENARIO`. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { Image, Machine, probe } from '../../lib/index.js';

const SPIN = 'echo ready; while :; do :; done';
const WAIT = 'echo ready; while read -r line; do echo "$line"; done';

interface Held {
  threads: number;
  descriptors: string[];
  children: number;
}

/** What ends while it is looked at, or is open only for the look, is not there. */
function ifThere(look: () => string[]): string[] {
  try {
    return look();
  } catch {
    return [];
  }
}

function held(): Held {
  const descriptors = readdirSync('/proc/self/fd').flatMap((fd) =>
    ifThere(() => [`${fd} ${readlinkSync(`/proc/self/fd/${fd}`)}`]),
  );
  const tasks = readdirSync('/proc/self/task');
  const children = tasks.flatMap((task) =>
    ifThere(() => readFileSync(`/proc/self/task/${task}/children`, 'utf8').trim().split(' ')),
  );
  return { threads: tasks.length, descriptors, children: children.filter(Boolean).length };
}

async function image(script: string): Promise<Image> {
  return await Image.fromProgram({ argv: ['busybox', 'sh', '-c', script], memoryMiB: 32 });
}

async function ready(machine: Machine): Promise<void> {
  await machine.start();
  await new Promise((resolve) => machine.stdout.once('data', resolve));
}

/** Whatever this process keeps for good is there after this: the addon, libuv's threads, their descriptors. */
async function warmUp(): Promise<void> {
  await probe();
  await Promise.all(Array.from({ length: 16 }, () => readFile('/proc/self/status')));
  await using machine = await Machine.create(await image('exit 0'));
  await machine.start();
  await machine.ended;
}

/** Runs `work` and prints what was held before and, once it is as little again or time is up, after. */
async function compare(work: () => Promise<void>): Promise<void> {
  await warmUp();
  await work();
  await settle({ threads: 0, descriptors: [], children: 0 }, 200);
  const before = held();
  await work();
  const after = await settle(before, 20_000);
  console.log(JSON.stringify({ before, after }));
}

async function settle(goal: Held, waitMs: number): Promise<Held> {
  for (let waited = 0; ; waited += 20) {
    const now = held();
    if (waited >= waitMs) return now;
    if (now.threads <= goal.threads && now.descriptors.length <= goal.descriptors.length) return now;
    global.gc?.();
    await sleep(20);
  }
}

async function closedInEveryState(): Promise<void> {
  const [spin, wait, exit] = await Promise.all([image(SPIN), image(WAIT), image('exit 3')]);
  for (let round = 0; round < 3; round++) {
    await (await Machine.create(spin)).close();
    for (const one of [spin, wait]) {
      const machine = await Machine.create(one);
      await ready(machine);
      await machine.close();
      await machine.close();
    }
    const paused = await Machine.create(wait);
    await ready(paused);
    await paused.pause();
    await paused.close();
    // It makes no access, so this pause never comes.
    const pausing = await Machine.create(spin);
    await ready(pausing);
    await Promise.allSettled([pausing.pause(), pausing.close()]);
    const ended = await Machine.create(exit);
    await ended.start();
    await ended.ended;
    await ended.close();
    const starting = await Machine.create(wait);
    await Promise.allSettled([starting.start(), starting.close()]);
  }
}

async function leftToTheCollector(): Promise<void> {
  const [spin, exit] = await Promise.all([image(SPIN), image('exit 3')]);
  for (let round = 0; round < 5; round++) {
    await Machine.create(spin);
    const machine = await Machine.create(exit);
    await machine.start();
    await machine.ended;
  }
}

async function terminatedWorkers(): Promise<void> {
  const [spin, wait] = await Promise.all([image(SPIN), image(WAIT)]);
  for (const { bytes } of [spin, wait, spin]) {
    const worker = new Worker(new URL('./lifecycle-worker.mjs', import.meta.url), { workerData: { bytes } });
    await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
    await worker.terminate();
  }
}

async function running(): Promise<void> {
  const machines = await Promise.all([SPIN, WAIT, SPIN].map(async (one) => Machine.create(await image(one))));
  await Promise.all(machines.map(ready));
  console.log('running');
}

const SCENARIOS: Record<string, () => Promise<void>> = {
  closed: () => compare(closedInEveryState),
  collected: () => compare(leftToTheCollector),
  terminated: () => compare(terminatedWorkers),
  exit: async () => {
    await running();
    process.exit(3);
  },
  uncaught: async () => {
    await running();
    setImmediate(() => {
      throw new Error('nobody catches this');
    });
  },
  unref: async () => {
    const machine = (await Machine.create(await image(SPIN))).unref();
    await machine.start();
    console.log('running');
  },
  'unref-waiting': async () => {
    const machine = await Machine.create(await image(WAIT));
    await ready(machine);
    machine.unref();
    console.log('running');
  },
};

await SCENARIOS[process.argv[2] as string]?.();
