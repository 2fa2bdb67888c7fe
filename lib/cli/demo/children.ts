import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { lockstep } from '../../control/side-process.js';

/** Runs a program and collects its output; `input` is all it reads. Aborted, it is ended. */
export async function collect(
  command: string,
  args: string[],
  input: string,
  signal?: AbortSignal,
): Promise<{ status: number; stdout: string; stderr: string }> {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'], signal });
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  const gather = async (stream: NodeJS.ReadableStream) => {
    const chunks: Buffer[] = [];
    for await (const chunk of stream) chunks.push(Buffer.from(chunk));
    return Buffer.concat(chunks).toString();
  };
  const [stdout, stderr, [status]] = await Promise.all([
    gather(child.stdout),
    gather(child.stderr),
    once(child, 'close') as Promise<[number | null]>,
  ]);
  return { status: status ?? 1, stdout, stderr };
}

/** `lockstep ...`, in a process of its own. */
export function runLockstep(args: string[], signal?: AbortSignal): ReturnType<typeof collect> {
  return collect(process.execPath, [lockstep, ...args], '', signal);
}

/** What `lockstep replay --json` prints, from a process that took no part in the recording. */
export async function replayElsewhere(
  log: string,
  signal?: AbortSignal,
): Promise<{
  status: number;
  events: number;
  checked: number;
  wallMs: number;
  stderr: string;
}> {
  const { status, stdout, stderr } = await runLockstep(['replay', '--json', '--quiet', log], signal);
  if (!stdout) return { status, events: 0, checked: 0, wallMs: 0, stderr };
  const result = JSON.parse(stdout) as { events: number; digests: { checked: number }; wallMs: number };
  return { status, events: result.events, checked: result.digests.checked, wallMs: result.wallMs, stderr };
}
