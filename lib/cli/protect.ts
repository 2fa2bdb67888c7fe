import type { KeptMachine } from '../cluster/keeper.js';
import {
  type ProtectedMachine,
  protect as protectMachine,
  unprotect as unprotectMachine,
} from '../cluster/protect.js';
import { LockstepError } from '../errors.js';
import { etcdOptions } from './etcd.js';
import { guestImage } from './guest.js';
import type { EtcdFlags, GuestFlags, SecurityFlags } from './options.js';
import { say, sayEnd, statusOfEnd } from './report.js';
import { securityOptions } from './security.js';

interface Flags extends EtcdFlags, SecurityFlags, GuestFlags {
  name: string;
  lease?: number;
  json?: boolean;
}

function describe({
  keeping,
  live,
  shadow,
  generation,
  protected: isProtected,
  waiting,
}: KeptMachine): string {
  const place = live === undefined ? 'live nowhere yet' : `live on ${live}, generation ${generation}`;
  const state = isProtected
    ? `protected by its shadow on ${shadow}`
    : `unprotected${waiting ? `: ${waiting}` : ''}`;
  return `${place}; ${state}${keeping ? '' : ' (another process keeps it)'}`;
}

function print(machine: ProtectedMachine, flags: Flags): void {
  machine.on('change', (kept) => {
    if (flags.json) process.stdout.write(`${JSON.stringify(kept)}\n`);
    else say(flags, `${machine.name}: ${describe(kept)}`);
  });
  machine.on('etcd', ({ detail }) => say(flags, `etcd does not answer; the machine goes on: ${detail}`));
}

/** `lockstep protect`. */
export default async function protect(flags: Flags, program: string[]): Promise<number> {
  const image = program.length > 0 || flags.image ? await guestImage(program, flags, false) : undefined;
  const { name, memory: memoryMiB, cpu: cpuModel, ip, gateway, mac, lease: leaseSeconds } = flags;
  const stray = ip === undefined && (gateway ?? mac) !== undefined;
  if (stray) throw new LockstepError('ERR_LOCKSTEP_INVALID_ARGUMENT', '--gateway and --mac need --ip');
  const net = ip === undefined ? undefined : { ip, gateway, mac };
  const own = { name, image, memoryMiB, cpuModel, net, leaseSeconds };
  const machine = await protectMachine({
    ...own,
    etcd: etcdOptions(flags),
    ...securityOptions(flags, 'side'),
  });
  print(machine, flags);
  let asked: number | undefined;
  const stop = (status: number) => () => {
    asked = status;
    void machine.close();
  };
  process.once('SIGINT', stop(130));
  process.once('SIGTERM', stop(143));
  try {
    const end = await machine.ended;
    if (flags.json) process.stdout.write(`${JSON.stringify({ name, ended: end })}\n`);
    const { reason, status, detail } = end;
    if (reason === 'removed' || reason === 'lost' || reason === 'failed-to-start') {
      say(flags, `${name} is over: ${reason}${detail ? `: ${detail}` : ''}`);
      return status;
    }
    const ended = { reason, status, detail };
    sayEnd(flags, ended);
    return statusOfEnd(ended);
  } catch (error) {
    if (asked === undefined) throw error;
    say(
      flags,
      `${name} goes on, and nobody mends it; to keep it again: lockstep protect --name ${name} --etcd ...`,
    );
    return asked;
  }
}

/** `lockstep unprotect`. */
export async function unprotect(flags: EtcdFlags & { quiet?: boolean }, name: string): Promise<number> {
  if (await unprotectMachine({ etcd: etcdOptions(flags), name })) {
    say(flags, `${name} is ended on its hosts`);
    return 0;
  }
  throw new LockstepError('ERR_LOCKSTEP_STATE', `there is no machine called ${name}`, {
    hint: '`lockstep hosts` lists machines.',
  });
}
