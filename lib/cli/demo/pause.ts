import type { ConsolePause } from '../../console-client.js';
import type { SideLine } from './children.js';

/** Where the time between the kill and the next answer went, as lines for a person. */
export function explainPause(
  killedUs: number,
  notices: Map<string, SideLine>,
  pause: ConsolePause | undefined,
): string[] {
  const moments: [string, number | undefined][] = [
    ['detection, the link breaks', notices.get('suspected')?.timeUs],
    ['claim, the arbiter answers', notices.get('claim-won')?.timeUs],
    ['catch-up, the rest of the log is relived', notices.get('live')?.timeUs],
    ['first output leaves the new side', notices.get('first-output')?.timeUs],
    ['first new answer is here', pause?.resumedUs],
  ];
  let before = killedUs;
  const lines = moments.flatMap(([what, timeUs]) => {
    if (timeUs === undefined) return [];
    // The client may see an answer in the same instant as the side notes it.
    const ms = Math.max(0, timeUs - before) / 1000;
    before = Math.max(before, timeUs);
    return [`  ${ms.toFixed(2).padStart(8)} ms  ${what}`];
  });
  return [...lines, `  ${((before - killedUs) / 1000).toFixed(2).padStart(8)} ms  in all`];
}
