import { join } from 'node:path';
import { count } from '../report.js';
import { replayElsewhere } from './children.js';
import type { Screen } from './screen.js';

/** Relives the recordings, each in a process that took no part in it. What was off. */
export async function replayLogs(
  directory: string,
  names: string[],
  screen: Screen,
  over?: AbortSignal,
): Promise<string[]> {
  screen.step('Replaying the recordings, in processes of their own');
  const replays = await Promise.all(names.map((name) => replayElsewhere(join(directory, name), over)));
  return replays.flatMap(({ status, events, checked, wallMs, stderr }, index) => {
    const name = names[index];
    if (status !== 0) return [`${name} does not replay (status ${status}) ${stderr.trim()}`];
    screen.line(
      `  ${name}: ${count(events, 'event')}, ${count(checked, 'digest')} checked, all equal, ${wallMs.toFixed(0)} ms`,
    );
    return checked === 0 ? [`${name} holds no digest to check`] : [];
  });
}
