/** Records workloads as a user's program would, and replays them in children held to one processor. */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { DEFAULT_ENV } from '../../lib/image/program-image.js';
import { type Divergence, Image, Recording, record } from '../../lib/index.js';
import { command, drain, printedRandom, processors, root, scratch } from './command.js';
import { kickRate } from './pace.js';
import type { Random } from './random.js';
import type { Workload } from './workloads.js';

export interface ReplayJob {
  log: string;
  /** Where its output goes. */
  stdout: string;
  kicks: { perSecond: number; seed: number };
}

export interface ReplayReport extends ReplayJob {
  divergence: Divergence | null;
  events: number;
  digests: { checked: number; final: string };
  status: number | null;
  /** How often it really was kicked. */
  kicked: number;
}

export interface Recorded {
  stdout: Buffer;
  stderr: Buffer;
  status: number;
  events: number;
  digests: number;
  /** The last digest in the log. */
  final: string;
}

/** What the workload does on the host, in the environment the guest has. */
export async function onHost(workload: Workload): Promise<{ stdout: Buffer; status: number }> {
  // Through env(1): the caller's environment is not the guest's.
  const variables = Object.entries(DEFAULT_ENV).map(([key, value]) => `${key}=${value}`);
  const argv = ['env', '-i', '-C', '/', ...variables, ...workload.argv];
  const { stdout, status, signal } = await command(argv, { input: workload.input?.join('') });
  if (status === null) throw new Error(`${workload.name} ended with ${signal} on the host`);
  return { stdout, status };
}

/** Records with a digest at every event, unless it says otherwise, feeding the input piece by piece. */
export async function recordWorkload(
  { argv, files = [], input = [], memoryMiB }: Workload,
  log: string,
  random: Random,
  digestEvery = 1,
): Promise<Recorded> {
  const packed = files.map((file) => (typeof file === 'string' ? { host: file, guest: file } : file));
  const image = await Image.fromProgram({ argv, files: packed, memoryMiB });
  const kicks = { perSecond: kickRate(500), seed: random.between(0, 2 ** 31) };
  await using machine = await record(image, { log, digestEvery, kicks });
  const outputs = Promise.all([drain(machine.stdout), drain(machine.stderr)]);
  for (const piece of input) {
    machine.stdin.write(piece);
    await sleep(random.between(0, 15));
  }
  machine.stdin.end();
  const [[stdout, stderr], ended] = await Promise.all([outputs, machine.ended]);
  const recording = await Recording.open(log);
  let final = '';
  for await (const { type, registers, devices, memory } of recording.events())
    if (type === 'digest') final = [registers, devices, memory].join('-');
  const { events, digests } = recording.info;
  return { stdout, stderr, status: ended.status, events, digests, final };
}

/** The processors this process may use. */
export function ourProcessors(): number[] {
  const status = readFileSync('/proc/self/status', 'utf8');
  return processors(/^Cpus_allowed_list:\s*(.*)$/m.exec(status)?.[1] ?? '0');
}

/** Replays in a child that is held to `processor`. */
export async function replayOn(processor: number, jobs: ReplayJob[]): Promise<ReplayReport[]> {
  if (jobs.length === 0) return [];
  const program = join(root, 'test/helpers/replay-child.ts');
  const paced = jobs.map(({ kicks: { perSecond, seed }, ...job }) => ({
    ...job,
    kicks: { perSecond: kickRate(perSecond), seed },
  }));
  const node = [process.execPath, '--import=tsx', program, JSON.stringify(paced)];
  const child = spawn('taskset', ['-c', String(processor), ...node], {
    stdio: ['ignore', 'pipe', 'inherit'],
    cwd: root,
    // What takes this long hangs.
    timeout: 20 * 60_000,
    killSignal: 'SIGKILL',
  });
  const status = new Promise((resolve) => child.on('close', (code, signal) => resolve(code ?? signal)));
  const output = await drain(child.stdout);
  const how = await status;
  if (how !== 0) throw new Error(`a replaying child ended with ${how} after ${output}`);
  return output
    .toString()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
}

/** Replays the log so many times under random kicks, half of them on either processor; output goes beside the log. */
export async function replayKicked(log: string, count: number, random: Random): Promise<ReplayReport[]> {
  const jobs = Array.from({ length: count }, (_, index) => ({
    log,
    stdout: `${log}.${index}.out`,
    kicks: { perSecond: random.pick([0, 200, 2000, 10_000]), seed: random.between(0, 2 ** 31) },
  }));
  const processors = ourProcessors();
  const half = count >> 1;
  const [first, last] = await Promise.all([
    replayOn(processors[0] as number, jobs.slice(half)),
    replayOn(processors.at(-1) as number, jobs.slice(0, half)),
  ]);
  if (first.length + last.length !== count) throw new Error(`${first.length + last.length} replays reported`);
  return [...first, ...last];
}

/** Records the workload, which must do what it does on the host, and replays it so many times. @returns its exit status */
export async function checkWorkload(
  t: ExecutionContext,
  workload: Workload,
  replays: number,
): Promise<number> {
  const random = printedRandom(t);
  const log = join(scratch(t), 'x.log');
  const host = await onHost(workload);
  const recorded = await recordWorkload(workload, log, random);
  t.is(recorded.stdout.toString('latin1'), host.stdout.toString('latin1'), recorded.stderr.toString());
  t.is(recorded.status, host.status, recorded.stderr.toString());
  t.true(recorded.stdout.length > 0);
  for (const report of await replayKicked(log, replays, random))
    t.is(whatIsWrong(report, recorded), undefined, JSON.stringify(report.kicks));
  return recorded.status;
}

/** What must hold of each replay; the first thing that does not, or undefined. */
export function whatIsWrong(report: ReplayReport, recorded: Recorded): string | undefined {
  const { divergence, digests, events, status } = report;
  if (divergence) return `diverged: ${JSON.stringify(divergence)}`;
  if (events !== recorded.events) return `${events} events instead of ${recorded.events}`;
  if (digests.checked !== recorded.digests)
    return `${digests.checked} digests instead of ${recorded.digests}`;
  if (digests.final !== recorded.final) return `final digest ${digests.final} instead of ${recorded.final}`;
  if (status !== recorded.status) return `status ${status} instead of ${recorded.status}`;
  if (!readFileSync(report.stdout).equals(recorded.stdout)) return 'other output';
  return undefined;
}
