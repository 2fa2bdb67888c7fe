/** What every case is given, and what it hands back. */
import type { Summary } from './measure.js';

export interface Settings {
  /** Rounds of runs in turn. */
  pairs: number;
  quick: boolean;
  /** How long one run of a program should take. */
  runMs: number;
  /** Starts a clock that has run out when one of `parts` equal parts of the case's time has passed. */
  timer: (parts: number) => () => boolean;
  /** A directory of this suite's own, removed at the end. */
  directory: string;
  /** Says what is being done, where somebody watches. */
  progress: (text: string) => void;
}

export type Unit = 's' | 'ms' | 'us' | 'ns' | 'B' | 'Mbit/s' | 'x' | '';

export interface Quantity {
  unit: Unit;
  value: Summary | number;
}

/** One line of the table. */
export interface Row {
  /** The budget's name; without a `limit`, a measurement of interest. */
  budget: string;
  what: string;
  ours?: Quantity;
  peer?: Quantity;
  ratio?: Summary | number;
  /** What `ratio`, or without one `ours`, must not exceed. */
  limit?: number;
  /** Why there is no number. */
  skipped?: string;
}

export interface Outcome {
  rows: Row[];
  /** Sentences for RESULTS.md. */
  notes?: string[];
}

export interface Case {
  name: string;
  /** One line for --help. */
  about: string;
  /** How long it may take; in a quiet window it takes less. On a busy machine there are fewer rounds. */
  minutes: number;
  run: (settings: Settings) => Promise<Outcome>;
}

export const median = (value: Summary | number): number => (typeof value === 'number' ? value : value.median);

/** Judged by the median. */
export function verdict({ ours, ratio, limit, skipped }: Row): '' | 'ok' | 'MISSED' | 'skipped' {
  if (skipped !== undefined) return 'skipped';
  if (limit === undefined) return '';
  const measured = ratio ?? ours?.value;
  // Not a number is no success.
  return measured !== undefined && median(measured) <= limit ? 'ok' : 'MISSED';
}
