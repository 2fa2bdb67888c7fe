import { Machine } from '../machine.js';
import type { LogOptions } from '../options.js';
import { createRecorded } from '../recording.js';
import { guestImage, logOptions } from './guest.js';
import type { GuestFlags, LogFlags } from './options.js';
import { processOptions, runMachine } from './run-machine.js';
import { findUser } from './user.js';

/** `lockstep run` and `lockstep record`. */
export default async function run(flags: GuestFlags & LogFlags, program: string[]): Promise<number> {
  const user = findUser(flags);
  const image = await guestImage(program, flags, process.stdin.isTTY || process.stdout.isTTY);
  const options = processOptions(flags, image);
  const machine =
    flags.log === undefined
      ? await Machine.create(image, options)
      : createRecorded(image, { ...options, ...(logOptions(flags) as LogOptions) });
  return runMachine(flags, machine, image, user);
}
