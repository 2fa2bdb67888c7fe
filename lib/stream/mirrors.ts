/** Which of several places a file is fetched from: those that answered, in turn; one that failed is left alone. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Source } from './source.js';

const PAUSE_MS = 100;
const PAUSE_MS_MAX = 5_000;

interface Mirror {
  source: Source;
  failures: number;
  retryAt: number;
  reason: string;
}

export class Mirrors {
  readonly #mirrors: Mirror[];
  #turn = 0;

  constructor(sources: Source[]) {
    this.#mirrors = sources.map((source) => ({ source, failures: 0, retryAt: 0, reason: '' }));
  }

  get count(): number {
    return this.#mirrors.length;
  }

  /** What is wrong with them, when it is wrong with all of them. */
  get trouble(): string | undefined {
    if (this.#mirrors.some(({ failures }) => failures === 0)) return undefined;
    return this.#mirrors.map(({ source, reason }) => `${source.name}: ${reason}`).join('; ');
  }

  /** Waits while all are left alone. Rejects with AbortError. */
  async take(signal: AbortSignal): Promise<Source> {
    for (;;) {
      const now = Date.now();
      const free = this.#mirrors.filter(({ retryAt }) => retryAt <= now);
      const mirror = free[this.#turn++ % Math.max(free.length, 1)];
      if (mirror) return mirror.source;
      const soonest = Math.min(...this.#mirrors.map(({ retryAt }) => retryAt));
      await sleep(Math.max(soonest - now, 1), undefined, { signal });
    }
  }

  answered(source: Source): void {
    const mirror = this.#find(source);
    if (mirror) mirror.failures = 0;
  }

  failed(source: Source, reason: string): void {
    const mirror = this.#find(source);
    if (!mirror) return;
    mirror.reason = reason;
    mirror.retryAt = Date.now() + Math.min(PAUSE_MS * 2 ** mirror.failures, PAUSE_MS_MAX);
    mirror.failures++;
  }

  close(): void {
    for (const { source } of this.#mirrors) source.close();
  }

  #find(source: Source): Mirror | undefined {
    return this.#mirrors.find((mirror) => mirror.source === source);
  }
}
