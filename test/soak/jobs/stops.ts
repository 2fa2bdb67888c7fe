// Recorders under SIGSTOP and SIGCONT.
import { Random } from '../../helpers/random.js';
import { recordStopped } from '../../helpers/stopped-recording.js';
import type { SoakContext, SoakResult } from '../job.js';

export const name = 'Recorder stopped and continued';

const RUNS = 60;

interface Tally {
  runs: number;
  stops: number;
  digests: number;
  failures: string[];
}

export async function run(context: SoakContext): Promise<SoakResult> {
  const none: Tally = { runs: 0, stops: 0, digests: 0, failures: [] };
  const tally = Object.assign(context.state, { ...none, ...context.state }) as unknown as Tally;
  const wanted = Math.max(1, Math.round(RUNS * context.scale));
  while (tally.runs < wanted) {
    try {
      const { stops, digests } = await recordStopped(new Random(context.seed + tally.runs));
      tally.stops += stops;
      tally.digests += digests;
    } catch (error) {
      tally.failures.push(String(error));
      context.say(`FAILED: ${error}`);
    }
    tally.runs++;
    context.save();
  }
  const { runs, stops, digests, failures } = tally;
  const text = [
    `${runs} recordings under ${stops} stops: ${digests} digests equal, ${failures.length} failed.`,
    ...failures.map((failure) => `- ${failure.split('\n')[0]}`),
  ];
  return { text: text.join('\n'), failed: failures.length };
}
