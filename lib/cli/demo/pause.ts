import type { SideLine } from '../../control/side-process.js';

export function milliseconds(us: number): string {
  return `${(us / 1000).toFixed(2).padStart(8)} ms`;
}

/** Where the time between the kill and the next answer went, as lines for a person. */
export function explainPause(
  killedUs: number,
  notices: Map<string, SideLine>,
  resumedUs: number | undefined,
): string[] {
  const moments: [string, number | undefined][] = [
    ['detection, the link breaks', notices.get('suspected')?.timeUs],
    ['claim, the arbiter answers', notices.get('claim-won')?.timeUs],
    ['catch-up, the rest of the log is relived', notices.get('live')?.timeUs],
    ['first output leaves the new side', notices.get('first-output')?.timeUs],
    ['first new answer is here', resumedUs],
  ];
  let before = killedUs;
  const lines = moments.flatMap(([what, timeUs]) => {
    if (timeUs === undefined) return [];
    // The client may see an answer in the same instant as the side notes it.
    const us = Math.max(0, timeUs - before);
    before = Math.max(before, timeUs);
    return [`  ${milliseconds(us)}  ${what}`];
  });
  return [...lines, `  ${milliseconds(before - killedUs)}  in all`];
}
