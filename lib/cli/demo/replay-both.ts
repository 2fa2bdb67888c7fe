import { join } from 'node:path';
import { count } from '../report.js';
import { replayElsewhere } from './children.js';
import type { Screen } from './screen.js';

/** Relives primary.log and shadow.log, each in a process that took no part in them. What was off. */
export async function replayBoth(directory: string, screen: Screen, over?: AbortSignal): Promise<string[]> {
  screen.step('Replaying both recordings, in processes of their own');
  const names = ['primary.log', 'shadow.log'];
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
