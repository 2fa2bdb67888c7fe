/** CPU time beside wall time: what other processes take away does not count in it. */
import { ratios, summarise } from './measure.js';
import type { MachineRun } from './workload.js';

export class CpuTime {
  readonly #samples = new Map<string, number[]>();

  /** Notes the CPU time of a run, and resolves with its wall time. */
  async wall(name: string, run: Promise<MachineRun>): Promise<number> {
    const { ms, cpuMs } = await run;
    this.#samples.set(name, [...(this.#samples.get(name) ?? []), cpuMs]);
    return ms;
  }

  ratio(name: string, to: string): string {
    return summarise(ratios(this.#samples.get(name) ?? [], this.#samples.get(to) ?? [])).median.toFixed(3);
  }
}
