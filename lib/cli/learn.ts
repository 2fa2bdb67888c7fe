import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { LockstepError } from '../errors.js';
import { learn, type Marker } from '../learn/learn.js';
import { mergeProfiles, type Profile, readProfile } from '../learn/profile.js';
import { invalid } from '../options.js';
import { Recording } from '../recording.js';
import { machineOptions, openSource } from './guest.js';
import type { MachineFlags } from './options.js';
import { bytes, count, say } from './report.js';

const AGAIN_MS = 100;

export interface LearnFlags extends MachineFlags {
  output: string;
  add?: boolean;
  force?: boolean;
  until?: string;
  runs: number;
  client?: string;
  after: number;
  timeout: number;
}

/** `output`, `accept`, `exit`, `event:N`, or a pattern of the output. */
export function marker(text: string): Marker {
  if (text === 'output' || text === 'accept' || text === 'exit') return { until: text };
  const event = /^event:(\d+)$/.exec(text);
  if (event) return { until: 'event', event: Number(event[1]) };
  try {
    return { until: 'pattern', pattern: new RegExp(text) };
  } catch (cause) {
    throw invalid(`${text} is no pattern: ${(cause as Error).message}`);
  }
}

/** `lockstep learn`. */
export default async function learnImage(flags: LearnFlags, file: string): Promise<number> {
  const source = await openSource(file);
  const isRecording = source instanceof Recording;
  if (isRecording && flags.client !== undefined)
    throw invalid('a recording has had its clients: leave --client out');
  const { contentBytes } = await (isRecording ? await source.image() : source).inspect();
  const before = await profileBefore(flags);
  const profile = await learn(source, {
    ...(isRecording ? { sandbox: flags.sandbox } : machineOptions(flags, source)),
    // Each run's terminal, or none, is what it reads and writes here: bytes.
    ...(!isRecording && !source.isSnapshot && { tty: {} }),
    marker: flags.until === undefined ? undefined : marker(flags.until),
    runs: flags.runs,
    input: isRecording || process.stdin.isTTY ? undefined : await readAll(),
    client: flags.client === undefined ? undefined : runsUntilItSucceeds(flags.client),
    afterMs: flags.after,
    timeoutMs: flags.timeout * 1000,
    onOutput: (text) => process.stdout.write(text),
  });
  const all = before === null ? profile : mergeProfiles([before, profile]);
  await writeFile(flags.output, `${JSON.stringify(all)}\n`);
  const ranges = Object.values(all.places).flat();
  const size = (isSoon: boolean) =>
    ranges.reduce((sum, [, length, runs]) => sum + ((runs === 0) === isSoon ? length : 0), 0);
  const soon = size(true) > 0 ? `, and ${bytes(size(true))} soon after` : '';
  const files = Object.keys(all.places).filter((name) => name.startsWith('/')).length;
  say(
    flags,
    `${flags.output}: ${count(all.runs, 'run')} touched ${bytes(size(false))} of ${bytes(contentBytes)}${soon}, ` +
      `in ${count(files, 'file')}`,
  );
  return 0;
}

/** The server that it asks may not listen yet. */
function runsUntilItSucceeds(command: string) {
  return async (_: unknown, signal: AbortSignal): Promise<void> => {
    for (;;) {
      const child = spawn('sh', ['-c', command], { stdio: 'ignore', signal });
      const [status] = (await once(child, 'exit', { signal })) as [number | null];
      if (status === 0) return;
      await sleep(AGAIN_MS, undefined, { signal });
    }
  };
}

/** With --add, the runs that the file has already. */
async function profileBefore({ output, add, force }: LearnFlags): Promise<Profile | null> {
  const isThere = await readFile(output).then(
    () => true,
    () => false,
  );
  if (!isThere) return null;
  if (add) return readProfile(output);
  if (force) return null;
  throw new LockstepError('ERR_LOCKSTEP_INVALID_ARGUMENT', `${output} exists already`, {
    hint: 'Use --add to count these runs with its own, or --force to replace it.',
  });
}

async function readAll(): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const part of process.stdin) parts.push(part as Uint8Array);
  return Buffer.concat(parts);
}
