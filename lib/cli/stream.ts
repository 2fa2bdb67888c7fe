import { basename } from 'node:path';
import type { Machine } from '../machine.js';
import { Stream } from '../stream/stream.js';
import type { MachineFlags } from './options.js';
import { reportError } from './report.js';
import { processOptions, runMachine } from './run-machine.js';
import { StreamReport } from './stream-report.js';
import { findUser } from './user.js';

interface StreamFlags extends MachineFlags {
  output?: string;
  mirror: string[];
  sha256?: string;
  connections?: number;
  download?: boolean;
  record?: string;
  force?: boolean;
  fsync?: boolean;
  digestEvery?: number;
  json?: boolean;
}

/** Ctrl-C, SIGTERM, and Lockstep's own failures, which were told already. */
const GIVES_UP = [130, 143, 125];

/** `lockstep stream`: the program's status; when it ends early, the rest is fetched before this does. */
export default async function stream(flags: StreamFlags, address: string): Promise<number> {
  const user = findUser(flags);
  const {
    mirror: mirrors,
    sha256,
    connections,
    output = basename(new URL(address, 'file:///').pathname),
  } = flags;
  const asked = new AbortController();
  let status: number | undefined;
  const stop = (with_: number) => () => {
    status = with_;
    asked.abort();
  };
  const [onInterrupt, onTerminate] = [stop(130), stop(143)];
  process.on('SIGINT', onInterrupt).on('SIGTERM', onTerminate);
  const { signal } = asked;
  let streamed: Stream | undefined;
  const report = new StreamReport(flags);
  try {
    streamed = await Stream.open(address, { output, mirrors, sha256, connections, signal });
    const watching = report.watch(streamed, signal);
    if (!flags.download) {
      const machine = await createMachine(streamed, flags, signal);
      report.guestRuns();
      // From here on Ctrl-C is the guest's, and a second one ends the machine.
      process.off('SIGINT', onInterrupt).off('SIGTERM', onTerminate);
      status = await runUntilEnd(streamed, { ...flags, log: flags.record, output }, machine, user);
      process.on('SIGINT', onInterrupt).on('SIGTERM', onTerminate);
      report.guestEnded();
      // Who was stopped, or could not start, does not wait for the rest.
      if (GIVES_UP.includes(status)) await streamed.close();
    }
    await Promise.race([streamed.finished, aborted(signal)]);
    await streamed.close();
    await watching;
    return status ?? 0;
  } catch (error) {
    await streamed?.close();
    if (signal.aborted || GIVES_UP.includes(status ?? 0)) return status ?? 130;
    return reportError(error);
  } finally {
    report.close();
    process.off('SIGINT', onInterrupt).off('SIGTERM', onTerminate);
  }
}

function createMachine(streamed: Stream, flags: StreamFlags, signal: AbortSignal): Promise<Machine> {
  const options = { ...processOptions(flags, streamed), signal };
  const { record: log, force, fsync, digestEvery } = flags;
  if (log === undefined) return streamed.createMachine(options);
  return streamed.createRecorded({ ...options, log, force, fsync, digestEvery });
}

/** A machine that can get no more of its memory would stand still for ever. */
async function runUntilEnd(
  streamed: Stream,
  flags: StreamFlags & { log?: string },
  machine: Machine,
  user: ReturnType<typeof findUser>,
): Promise<number> {
  streamed.finished.catch(() => void machine.close());
  return runMachine(flags, machine, streamed, user);
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
