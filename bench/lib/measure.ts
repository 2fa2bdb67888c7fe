/** Samples, what they come to, and runs in turn. */
export interface Summary {
  median: number;
  min: number;
  max: number;
  count: number;
}

export function percentile(values: readonly number[], percent: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  if (sorted.length === 0) return Number.NaN;
  // Between the two nearest ranks.
  const rank = (percent / 100) * (sorted.length - 1);
  const low = sorted[Math.floor(rank)] as number;
  const high = sorted[Math.ceil(rank)] as number;
  return low + (high - low) * (rank - Math.floor(rank));
}

export function summarise(values: readonly number[]): Summary {
  return {
    median: percentile(values, 50),
    min: Math.min(...values),
    max: Math.max(...values),
    count: values.length,
  };
}

/** One over the other, round by round: what both suffered in a round cancels out. */
export function ratios(ours: readonly number[], peer: readonly number[]): number[] {
  return ours.map((value, index) => value / (peer[index] as number));
}

/** Something to time; resolves with how long it took, by its own clock. */
export type Arm = () => Promise<number>;

export interface Turns {
  rounds: number;
  /** No further round begins once this says true; two are run in any case. */
  timeUp: () => boolean;
  progress: (done: number, of: number) => void;
}

const ROUNDS_MIN = 2;

/**
 * Runs every arm once a round, every other round backwards, so that a machine that grows faster or slower
 * favours none.
 */
export async function inTurn<Name extends string>(
  arms: Record<Name, Arm>,
  { rounds, timeUp, progress }: Turns,
): Promise<Record<Name, number[]>> {
  const names = Object.keys(arms) as Name[];
  const samples = Object.fromEntries(names.map((name) => [name, []])) as unknown as Record<Name, number[]>;
  let done = 0;
  for (let round = 0; round < rounds && !(round >= ROUNDS_MIN && timeUp()); round++) {
    for (const name of round % 2 === 0 ? names : names.toReversed()) {
      samples[name].push(await arms[name]());
      progress(++done, rounds * names.length);
    }
  }
  return samples;
}

/** Rejects when `work` takes longer; `abandon` then has to end it. */
export async function within<T>(
  limitMs: number,
  what: string,
  work: Promise<T>,
  abandon: () => unknown,
): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new Error(`${what} took longer than ${limitMs / 1000} s`));
      abandon();
    }, limitMs);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** How much work takes `targetMs`, found with ever larger pieces; `run` resolves with milliseconds. */
export async function calibrate(
  first: number,
  targetMs: number,
  run: (amount: number) => Promise<number>,
): Promise<number> {
  let amount = first;
  let before = { amount: 0, ms: 0 };
  for (;;) {
    const ms = await run(amount);
    // Two sizes tell the slope: what it costs to start does not count.
    const slope = (ms - before.ms) / (amount - before.amount);
    if (before.amount > 0 && slope > 0 && ms >= targetMs / 5) return Math.ceil(targetMs / slope);
    before = { amount, ms };
    amount *= ms < targetMs / 40 ? 8 : 3;
  }
}
