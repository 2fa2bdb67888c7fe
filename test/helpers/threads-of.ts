/** The threads of a process, as /proc shows them. */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

export interface ThreadOf {
  name: string;
  /** One field of its status, such as 'Seccomp'. */
  field: (name: string) => string;
}

export function threadsOf(pid: number): ThreadOf[] {
  return readdirSync(`/proc/${pid}/task`).flatMap((thread) => {
    try {
      const at = `/proc/${pid}/task/${thread}`;
      const status = readFileSync(`${at}/status`, 'utf8');
      const field = (name: string) => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1] ?? '';
      return [{ name: readFileSync(`${at}/comm`, 'utf8').trim(), field }];
    } catch {
      return []; // it ended meanwhile
    }
  });
}

/** Those called `name`, once there is one of which `holds` is true. */
export async function threadsCalled(
  pid: number,
  name: string,
  holds: (thread: ThreadOf) => boolean,
): Promise<ThreadOf[]> {
  for (;;) {
    const found = threadsOf(pid).filter((thread) => thread.name === name);
    if (found.some(holds)) return found;
    await sleep(10);
  }
}
