/**
 * A process for a network namespace of its own: packs one of the programs of stream-programs.ts, learns it, publishes
 * it in either order, and starts it over a line of 10 Mbit/s. Takes a StreamJob, prints a StreamReport, as JSON.
 */
import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { Machine, publish, Stream, serve } from '../../lib/index.js';
import { learn } from '../../lib/learn/learn.js';
import type { Profile } from '../../lib/learn/profile.js';
import { TEN_MBIT, ThinLine } from '../../test/helpers/thin-line.js';
import { percentile } from './measure.js';
import { STREAMED, type Streamed } from './stream-programs.js';

export interface StreamJob {
  name: Streamed['name'];
  directory: string;
  quick: boolean;
}

export interface StreamRun {
  /** At the first answer. */
  ms: number;
  bytes: number;
  faults: number;
  /** Of everything. */
  bytesTotal: number;
  /** Time of the work that comes behind the answer against that of a machine whose image is here: the median of pairs. */
  work?: number;
}

export interface StreamReport {
  learned: StreamRun;
  /** Asked another thing than was learned, where that makes a difference. */
  another?: StreamRun;
  unlearned: StreamRun;
  local: { ms: number };
}

const WORK_TIMES = 7;
const QUESTIONS = { learned: 11, another: 17 };

const job = JSON.parse(process.argv[2] ?? '') as StreamJob;
const program = STREAMED.find(({ name }) => name === job.name) as Streamed;
const net = program.net ? { net: { tap: true } as const } : {};
execFileSync('ip', ['link', 'set', 'lo', 'up']);

async function answer(machine: Machine, question: number): Promise<number> {
  const begun = performance.now();
  machine.stdout.on('data', () => {});
  machine.stderr.on('data', () => {});
  await machine.start();
  await program.ask(machine, question);
  return performance.now() - begun;
}

const here = () => (image.path === undefined ? Machine.create(image, net) : Machine.restore(image.path, net));

/** Several times while the rest of the image arrives, each in turn with the same in a machine that has all of it. */
async function work(machine: Machine, local: Machine): Promise<number> {
  const timed = async (one: Machine) => {
    const begun = performance.now();
    await program.work?.(one);
    return performance.now() - begun;
  };
  const ratios: number[] = [];
  for (let i = 0; i < WORK_TIMES; i++) ratios.push((await timed(machine)) / (await timed(local)));
  return percentile(ratios, 50);
}

/** Published with this profile, or with none; started once for each question. */
async function streamed(path: string, questions: number[], profile?: Profile): Promise<StreamRun[]> {
  const site = join(job.directory, 'site');
  await publish(path, site, { name: 'app', ...(profile && { profile }) });
  const runs: StreamRun[] = [];
  for (const question of questions) runs.push(await start(site, question));
  rmSync(site, { recursive: true, force: true });
  return runs;
}

async function start(site: string, question: number): Promise<StreamRun> {
  await using server = await serve(site);
  const line = await ThinLine.open(Number(new URL(server.url).port), TEN_MBIT);
  const output = join(job.directory, 'got.lsm');
  await using local = program.work && (await here());
  if (local) await answer(local, question);
  const begun = performance.now();
  const stream = await Stream.open(`${line.url}app`, { output });
  try {
    await using machine = await stream.createMachine(net);
    await answer(machine, question);
    const ms = performance.now() - begun;
    const { bytes, bytesTotal, demandFaults: faults } = stream.status;
    return { ms, bytes, faults, bytesTotal, ...(local && { work: await work(machine, local) }) };
  } finally {
    await stream.close();
    await line.close();
    for (const file of [output, `${output}.part`]) rmSync(file, { force: true });
  }
}

async function locally(): Promise<{ ms: number }> {
  await using machine = await here();
  return { ms: await answer(machine, QUESTIONS.another) };
}

const image = await program.make(job.directory, job.quick);
const path = image.path ?? join(job.directory, `${job.name}.lsm`);
if (image.path === undefined) await image.write(path, { force: true });
const profile = await learn(image, {
  ...net,
  client: (machine) => program.ask(machine, QUESTIONS.learned),
});
const { learned: same, another: other } = QUESTIONS;
const [learned, another] = await streamed(path, program.isKeyed ? [same, other] : [other], profile);
const [unlearned] = await streamed(path, [other]);
const report = { learned, another, unlearned, local: await locally() } as StreamReport;
process.stdout.write(`${JSON.stringify(report)}\n`);
process.exit(0);
