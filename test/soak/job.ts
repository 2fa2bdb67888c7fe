// What a soak job is and what it is given. A job lives in jobs/*.ts and exports `name` and `run`.

/** All it needs, and all it leaves, goes through here. */
export interface SoakContext {
  /** For this job's files; stays from one run of the soak to the next. */
  directory: string;
  /** Where its random generators start; the same for the whole soak, however often it is resumed. */
  seed: number;
  /** How much to do, from 0 to 1: `--scale 0.1` is a tenth of the full figures. */
  scale: number;
  /** How many things to do at once. */
  parallel: number;
  /** What this job has done so far; written to disk by {@link save}. */
  state: Record<string, unknown>;
  save(): void;
  /** A line for whoever watches. */
  say(text: string): void;
}

export interface SoakJob {
  /** Its heading in bench/RESULTS.md. */
  name: string;
  /** Goes on from `context.state`, to the end. */
  run(context: SoakContext): Promise<SoakResult>;
}

export interface SoakResult {
  /** Markdown, without a heading. */
  text: string;
  failed: number;
}
