/** Watches which pages of an image a program touches, up to a moment that its user cares about. */
import type { Readable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { withSignal } from '../deferred.js';
import { LockstepError } from '../errors.js';
import { Image } from '../image.js';
import { Machine } from '../machine.js';
import { invalid, type MachineOptions, machineShare, sandboxConfig } from '../options.js';
import { Recording } from '../recording.js';
import { type Place, placesOf } from './places.js';
import { mergeProfiles, type Profile, profileOf } from './profile.js';

/** The moment up to which a run is watched. */
export type Marker =
  /** The program's first output. */
  | { until: 'output' }
  /** The program accepted its first connection. */
  | { until: 'accept' }
  /** The program ended. */
  | { until: 'exit' }
  /** Its output has this in it. */
  | { until: 'pattern'; pattern: RegExp }
  /** So many events entered the machine. */
  | { until: 'event'; event: number };

export interface LearnOptions extends MachineOptions {
  /** Default: the first output; with a client, its end. */
  marker?: Marker;
  /** How many runs are watched, and counted together. Default 1. */
  runs?: number;
  /** What the program reads, in each run. Default: nothing; with a client, what that writes. */
  input?: Uint8Array;
  /** Makes the program answer, as soon as it runs. */
  client?: (machine: Machine, signal: AbortSignal) => Promise<void>;
  /**
   * How long a run is watched past its marker, in milliseconds. What it touches only then (a timer's work, a
   * connection's end) may next time come before, and is fetched right behind what it starts with. Default 500.
   */
  afterMs?: number;
  /** How long a run may take to its marker. Default 60 s. */
  timeoutMs?: number;
  /** The program's output, as it comes. */
  onOutput?: (bytes: Uint8Array) => void;
  signal?: AbortSignal;
}

const TIMEOUT_MS = 60_000;
/** Servers look after their affairs ten times a second. */
const AFTER_MS = 500;
/** The counters of a machine say nothing by themselves. */
const LOOK_MS = 1;

/**
 * Runs an image, or relives a recording that starts at boot, and says what it touched. Throws ERR_LOCKSTEP_LEARN when
 * the marker does not come.
 */
export async function learn(source: Image | Recording, options: LearnOptions = {}): Promise<Profile> {
  const image = source instanceof Recording ? await source.image() : source;
  const info = await image.inspect();
  if (source instanceof Recording && (source.info.startEvent > 0 || info.mode === 'snapshot'))
    throw invalid(
      `${source.path} starts in the midst of a machine's life`,
      'Learn from the snapshot it started from.',
    );
  const places = await placesOf(info, async (at, bytes) => image.bytes.subarray(at, at + bytes));
  // A recording does the same each time.
  const runs = source instanceof Recording ? 1 : (options.runs ?? 1);
  const profiles: Profile[] = [];
  while (profiles.length < runs)
    profiles.push(await watchOnce(makeMachine(source, image, options), places, options));
  return mergeProfiles(profiles);
}

function makeMachine(source: Image | Recording, image: Image, options: LearnOptions): Machine {
  if (source instanceof Image) {
    const share = machineShare(image, options);
    const machine = new Machine({ mode: 'run', tracePages: true, image: image.bytes, ...share }, {});
    const { input, client } = options;
    if (input || !client) machine.stdin.end(input ?? new Uint8Array(0));
    return machine;
  }
  const { marker } = options;
  const stopAtEvent = marker?.until === 'event' ? marker.event : undefined;
  return new Machine(
    { mode: 'replay', tracePages: true, log: source.path, stopAtEvent, ...sandboxConfig(options) },
    { stdin: 'ignore' },
  );
}

async function watchOnce(
  machine: Machine,
  places: readonly Place[],
  options: LearnOptions,
): Promise<Profile> {
  const over = new AbortController();
  const stop = AbortSignal.any([
    over.signal,
    AbortSignal.timeout(options.timeoutMs ?? TIMEOUT_MS),
    ...(options.signal ? [options.signal] : []),
  ]);
  try {
    const reached = markerOf(machine, options, stop);
    await machine.start({ signal: stop });
    const missed = await withSignal(Promise.race([reached, overWithout(machine)]), stop);
    if (missed !== undefined && options.marker?.until !== 'exit') throw notReached(missed);
    const { length } = machine.native.touchedPages();
    await goOn(machine, options);
    return profileOf(places, machine.native.touchedPages(), length);
  } catch (error) {
    options.signal?.throwIfAborted();
    if (stop.aborted) throw notReached(`it took more than ${(options.timeoutMs ?? TIMEOUT_MS) / 1000} s`);
    throw error;
  } finally {
    over.abort();
    await machine.close();
  }
}

async function goOn(machine: Machine, { afterMs = AFTER_MS, signal }: LearnOptions): Promise<void> {
  const over = new AbortController();
  const waited = sleep(afterMs, undefined, { signal: over.signal }).catch(() => {});
  try {
    await withSignal(Promise.race([waited, machine.ended.catch(() => {})]), signal);
  } finally {
    over.abort();
  }
}

/** How it ended, once all it had put out was heard. */
async function overWithout(machine: Machine): Promise<string> {
  const closed = [machine.stdout, machine.stderr].map((stream) => finished(stream).catch(() => {}));
  const why = await machine.ended.then(
    ({ reason, status, detail }) => detail || `the program ended first (${reason}, ${status})`,
    (error: Error) => error.message,
  );
  await Promise.all(closed);
  return why;
}

/** Resolves at the marker. Output is read in any case, for a program whose output nobody reads stands still. */
async function markerOf(machine: Machine, options: LearnOptions, stop: AbortSignal): Promise<undefined> {
  const { client, marker = client ? undefined : ({ until: 'output' } as const) } = options;
  const output = listen([machine.stdout, machine.stderr], marker, options.onOutput);
  const asked = client?.(machine, stop);
  if (!marker) return void (await asked);
  // Where the marker does not come, that is what is told.
  asked?.catch(() => {});
  switch (marker.until) {
    case 'output':
    case 'pattern':
      return output;
    case 'accept':
      return look(() => machine.stats().accepted > 0, stop);
    case 'event':
      return look(() => machine.stats().lsn >= marker.event, stop);
    default:
      return overWithout(machine).then(() => undefined);
  }
}

function listen(
  streams: readonly Readable[],
  marker: Marker | undefined,
  onOutput: LearnOptions['onOutput'],
): Promise<undefined> {
  return new Promise((resolve) => {
    for (const stream of streams) {
      let text = '';
      stream.on('data', (bytes: Buffer) => {
        onOutput?.(bytes);
        if (marker?.until === 'output') resolve(undefined);
        if (marker?.until !== 'pattern') return;
        text = (text + bytes.toString('latin1')).slice(-65_536);
        if (marker.pattern.test(text)) resolve(undefined);
      });
    }
  });
}

async function look(isThere: () => boolean, stop: AbortSignal): Promise<undefined> {
  while (!isThere()) await sleep(LOOK_MS, undefined, { signal: stop });
}

function notReached(why: string): LockstepError {
  return new LockstepError('ERR_LOCKSTEP_LEARN', `the run did not come to the moment to be learned: ${why}`, {
    hint: 'Give the program what it needs to get there, or name another moment: --until.',
  });
}
