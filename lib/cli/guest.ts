import { LockstepError } from '../errors.js';
import { Image } from '../image.js';
import type { Machine } from '../machine.js';
import type { MachineOptions, OptionalLogOptions } from '../options.js';
import { invalid } from '../options.js';
import { Recording } from '../recording.js';
import type { GuestFlags, LogFlags, MachineFlags } from './options.js';

/** The image to start: --image, or PROGRAM packed. */
export async function guestImage(program: string[], flags: GuestFlags, terminal: boolean): Promise<Image> {
  if (flags.image !== undefined) {
    if (program.length > 0) throw invalid('give a program or --image, not both');
    return Image.open(flags.image);
  }
  if (program.length === 0) throw invalid('no program given', 'Write it after `--`, or use --image FILE.');
  const { file: files, env, cwd, memory: memoryMiB, patch, leave } = flags;
  return Image.fromProgram({ argv: program, files, env, cwd, memoryMiB, patch, leave, terminal });
}

function netOptions({ net, ip, gateway, mac }: MachineFlags): MachineOptions['net'] {
  const stray = Object.entries({ ip, gateway, mac }).find(([, value]) => value !== undefined);
  if (!net && stray) throw invalid(`--${stray[0]} needs --net`, 'Say what the card is joined to: --net tap.');
  return net && { ...net, ip, gateway, mac };
}

/** An image's file, or a recording. */
export async function openSource(path: string): Promise<Image | Recording> {
  try {
    return await Image.open(path);
  } catch (error) {
    if (!(error instanceof LockstepError)) throw error;
    // When it is neither, the first answer is the better one.
    const recording = await Recording.open(path).catch(() => undefined);
    if (!recording) throw error;
    return recording;
  }
}

/** The same; of a recording, the image in it. */
export async function openImage(path: string): Promise<Image> {
  const source = await openSource(path);
  return source instanceof Recording ? source.image() : source;
}

/** The machine's options, with the terminal of this process where it has one. A snapshot's machine has its own. */
export function machineOptions(flags: MachineFlags, origin: Pick<Image, 'isSnapshot'>): MachineOptions {
  const { stdin, stdout, stderr } = process;
  const given = {
    memoryMiB: flags.memory,
    cpuModel: flags.cpu,
    seed: flags.seed,
    time: flags.time,
    sandbox: flags.sandbox,
    net: netOptions(flags),
  };
  if (origin.isSnapshot) return given;
  return {
    ...given,
    tty: { stdin: stdin.isTTY, stdout: stdout.isTTY, stderr: stderr.isTTY },
    rows: stdout.rows || undefined,
    columns: stdout.columns || undefined,
  };
}

/** Tells the guest of a snapshot, which may remember another one, of this process's terminal. */
export function tellTerminal(machine: Machine, origin: Pick<Image, 'isSnapshot'>): void {
  const { isTTY, rows, columns } = process.stdout;
  if (origin.isSnapshot && isTTY) machine.resize(rows, columns);
}

export function logOptions({ log, force, fsync, imageByHash, digestEvery }: LogFlags): OptionalLogOptions {
  return { log, force, fsync, imageByHash, digestEvery };
}
