/** The threads of a process, as /proc shows them. */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

export interface ThreadOf {
  name: string;
  /** One field of its status, such as 'Seccomp'. */
  field: (name: string) => string;
}

/** The process's first thread first. */
export function threadsOf(pid: number): ThreadOf[] {
  // Node sorts them as texts: 10001 before 9999.
  const threads = readdirSync(`/proc/${pid}/task`).sort(
    (a, b) => Number(b === `${pid}`) - Number(a === `${pid}`),
  );
  return threads.flatMap((thread) => {
    try {
      const at = `/proc/${pid}/task/${thread}`;
      const status = readFileSync(`${at}/status`, 'utf8');
      const field = (name: string) => new RegExp(`^${name}:[ \\t]*(.*)$`, 'm').exec(status)?.[1] ?? '';
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

/** Who it is, and what it may: `uid gid groups permitted effective`, real, effective, saved and file system's alike. */
export function rightsOf({ field }: ThreadOf): string {
  const ids = ['Uid', 'Gid'].map((name) => [...new Set(field(name).split('\t'))].join(','));
  return [...ids, `[${field('Groups').trim()}]`, field('CapPrm'), field('CapEff')].join(' ');
}

/** A worker that KVM itself has in each process with a machine. It runs in the kernel alone, and keeps its ids. */
const KERNELS_OWN = 'kvm-nx-lpage-re';

/** Of all threads, once they are root's no longer: what they differ in is said one after the other. */
export async function rightsOnceChanged(pid: number): Promise<string> {
  for (;;) {
    const own = threadsOf(pid).filter(({ name }) => name !== KERNELS_OWN);
    const rights = [...new Set(own.map(rightsOf))];
    if (!rights.some((one) => one.startsWith('0 '))) return rights.join('; ');
    await sleep(10);
  }
}
