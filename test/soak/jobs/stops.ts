// Recorders under SIGSTOP and SIGCONT.
import { Random } from '../../helpers/random.js';
import { recordStopped } from '../../helpers/stopped-recording.js';
import type { SoakContext, SoakResult } from '../job.js';

export const name = 'Recorder stopped and continued';

const RUNS = 60;

interface Tally {
  runs: number;
  events: number;
  digests: number;
  failures: string[];
}

export async function run(context: SoakContext): Promise<SoakResult> {
  const none: Tally = { runs: 0, events: 0, digests: 0, failures: [] };
  const tally = Object.assign(context.state, { ...none, ...context.state }) as unknown as Tally;
  const wanted = Math.max(1, Math.round(RUNS * context.scale));
  while (tally.runs < wanted) {
    try {
      const { events, digests } = await recordStopped(new Random(context.seed + tally.runs));
      tally.events += events;
      tally.digests += digests;
    } catch (error) {
      tally.failures.push(String(error));
      context.say(`FAILED: ${error}`);
    }
    tally.runs++;
    context.save();
  }
  const { runs, events, digests, failures } = tally;
  const text = [
    `${runs} recordings, stopped every 1.5 ms: ${events} events, ${digests} digests equal, ${failures.length} failed.`,
    ...failures.map((failure) => `- ${failure.split('\n')[0]}`),
  ];
  return { text: text.join('\n'), failed: failures.length };
}
