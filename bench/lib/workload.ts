/** One program, timed on the host, in a machine, in one that is recorded, and relived. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { Image, Machine, type MachineStats, record, replay } from '../../lib/index.js';
import { within } from './measure.js';

const RUN_LIMIT_MS = 120_000;

/** How a program's streams are joined. */
export type Streams =
  /** No input, and output to /dev/null: one write for every output all the same. */
  | { kind: 'null' }
  /** Input from a file, output to /dev/null. */
  | { kind: 'file'; path: string }
  /** Talks to the program; the work is done when it resolves. Then the input ends. */
  | { kind: 'talk'; talk: (stdin: NodeJS.WritableStream, stdout: NodeJS.ReadableStream) => Promise<void> };

export interface Workload {
  name: string;
  argv: string[];
  files?: { host: string; guest: string }[];
  streams: Streams;
}

export interface MachineRun {
  /** From the moment the machine runs to its end. */
  ms: number;
  /** What this process used meanwhile, the guest included. */
  cpuMs: number;
  stats: MachineStats;
}

export async function timeOnHost(work: Workload): Promise<number> {
  const input = openSync(work.streams.kind === 'file' ? work.streams.path : '/dev/null', 'r');
  const nothing = openSync('/dev/null', 'w');
  try {
    const begun = performance.now();
    const child = spawn(work.argv[0] as string, work.argv.slice(1), { stdio: [input, nothing, 'inherit'] });
    const [status] = await within(RUN_LIMIT_MS, `${work.name} on the host`, once(child, 'exit'), () =>
      child.kill('SIGKILL'),
    );
    if (status !== 0) throw new Error(`${work.name} ended with ${status} on the host`);
    return performance.now() - begun;
  } finally {
    closeSync(input);
    closeSync(nothing);
  }
}

function startClock(): () => { ms: number; cpuMs: number } {
  const begun = performance.now();
  const before = process.cpuUsage();
  return () => {
    const ms = performance.now() - begun;
    const { user, system } = process.cpuUsage(before);
    return { ms, cpuMs: (user + system) / 1000 };
  };
}

/** A workload with its image, and the log of its last recording. */
export class Guest {
  readonly work: Workload;
  readonly image: Image;
  readonly log: string;

  static async prepare(work: Workload, directory: string): Promise<Guest> {
    const image = await Image.fromProgram({ argv: work.argv, files: work.files });
    return new Guest(work, image, join(directory, `${work.name}.log`));
  }

  /** A bare guest: nothing goes in, and what comes out goes to /dev/null. */
  static bare(name: string, image: Image, directory: string): Guest {
    return new Guest({ name, argv: [], streams: { kind: 'null' } }, image, join(directory, `${name}.log`));
  }

  private constructor(work: Workload, image: Image, log: string) {
    this.work = work;
    this.image = image;
    this.log = log;
  }

  run({ sandbox }: { sandbox?: boolean } = {}): Promise<MachineRun> {
    return this.#timed('run', async (channels) => {
      const machine = await Machine.create(this.image, { ...channels, sandbox });
      await machine.start();
      return machine;
    });
  }

  record({ digestEvery }: { digestEvery?: number } = {}): Promise<MachineRun> {
    return this.#timed('record', (channels) =>
      record(this.image, { ...channels, log: this.log, force: true, digestEvery }),
    );
  }

  /** Relives the last recording; throws when it goes another way. Its output goes to /dev/null, too. */
  async replay(): Promise<MachineRun> {
    const nothing = openSync('/dev/null', 'w');
    try {
      const replaying = await replay(this.log, { stdout: nothing, stderr: nothing });
      const begun = startClock();
      try {
        const { machine } = replaying;
        await within(RUN_LIMIT_MS, `replay of ${this.work.name}`, machine.ended, () => replaying.close());
        return { ...begun(), stats: machine.stats() };
      } finally {
        await replaying.close();
      }
    } finally {
      closeSync(nothing);
    }
  }

  async #timed(
    how: string,
    start: (channels: {
      stdin: 'stream' | number;
      stdout: 'stream' | number;
      stderr: 'inherit';
    }) => Promise<Machine>,
  ): Promise<MachineRun> {
    const { streams, name } = this.work;
    const input = openSync(streams.kind === 'file' ? streams.path : '/dev/null', 'r');
    const nothing = openSync('/dev/null', 'w');
    let machine: Machine | undefined;
    try {
      machine = await start(
        streams.kind === 'talk'
          ? { stdin: 'stream', stdout: 'stream', stderr: 'inherit' }
          : { stdin: input, stdout: nothing, stderr: 'inherit' },
      );
      const running = machine;
      const begun = startClock();
      const work = async () => {
        if (streams.kind === 'talk') {
          await Promise.race([streams.talk(running.stdin, running.stdout), running.ended]);
          running.stdin.end();
        }
        return running.ended;
      };
      const ended = await within(RUN_LIMIT_MS, `${how} of ${name}`, work(), () => running.close());
      const taken = begun();
      if (ended.reason !== 'exited' || ended.status !== 0) {
        throw new Error(`${name} ended with ${ended.reason} ${ended.status}: ${ended.detail}`);
      }
      return { ...taken, stats: running.stats() };
    } finally {
      await machine?.close();
      closeSync(input);
      closeSync(nothing);
    }
  }
}
