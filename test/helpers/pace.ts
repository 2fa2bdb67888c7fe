/** How much is done on this host. An emulated one (scripts/emulated) is ten to twenty times slower than others. */
export const emulated = process.env.LOCKSTEP_EMULATED === '1';

/** So many times; fewer on an emulated host, but more than once. */
export const times = (count: number): number =>
  emulated ? Math.min(count, Math.max(2, count / 10)) | 0 : count;

/** A limit in ms that only what hangs runs into, or a time to wait that others must not outlast. */
export const patience = (ms: number): number => (emulated ? ms * 10 : ms);

/** Kicks per second of which a guest gets as much work done between two. */
export const kickRate = (perSecond: number): number => (emulated ? Math.ceil(perSecond / 20) : perSecond);
