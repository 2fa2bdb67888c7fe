import { Host } from '../cluster/host.js';
import { etcdOptions } from './etcd.js';
import type { EtcdFlags, GuestFlags, SecurityFlags } from './options.js';
import { say } from './report.js';
import { securityOptions } from './security.js';

interface Flags extends EtcdFlags, SecurityFlags, Pick<GuestFlags, 'net' | 'memory' | 'quiet'> {
  name?: string;
  address?: string;
  ports?: { first: number; last: number };
  cores?: number;
  directory?: string;
  lease?: number;
}

/** `lockstep host`. */
export default async function host(flags: Flags): Promise<number> {
  const { name, address, ports, memory: memoryMiB, cores, net, directory, lease: leaseSeconds } = flags;
  const own = { name, address, ports, memoryMiB, cores, net, directory, leaseSeconds };
  const here = await Host.start({ ...own, etcd: etcdOptions(flags), ...securityOptions(flags, 'side') });
  const { record } = here;
  say(
    flags,
    `host ${record.name} at ${record.address}: ${record.memoryMiB} MiB for machines, ${record.cores} cores, ` +
      `${record.cpuModel}; files in ${here.directory}`,
  );
  here.on('etcd', ({ detail }) =>
    say(flags, detail ? `etcd does not answer: ${detail}` : 'etcd answers again'),
  );
  here.on('leaving', ({ detail }) => say(flags, `leaving: ${detail}`));
  const roles = new Map<string, string>();
  here.on('side', ({ machine, id, role, status }) => {
    const { state, live, why } = status;
    const now =
      state === 'over' ? `over (${why})` : live ? (status.protected ? 'live, protected' : 'live') : state;
    if (roles.get(id) === now) return;
    roles.set(id, now);
    say(flags, `${machine}: ${role} ${id} is ${now}`);
  });
  let signals = 0;
  let asked = 0;
  const leave = (status: number) => () => {
    asked = status;
    void here.close({ now: ++signals > 1 });
  };
  process.on('SIGINT', leave(130));
  process.on('SIGTERM', leave(143));
  await here.ended;
  return asked;
}
