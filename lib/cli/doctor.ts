import { existsSync } from 'node:fs';
import { LockstepError } from '../errors.js';
import { type HostProbe, probe } from '../probe.js';

interface Check {
  name: string;
  /** 'bad' makes the exit status 1; 'note' costs speed or comfort only. */
  state: 'ok' | 'note' | 'bad';
  value: string;
  advice?: string;
}

function kvmChecks(host: HostProbe): Check[] {
  if (host.error) return [{ name: '/dev/kvm', state: 'bad', value: host.error, advice: host.hint }];
  const { exitRoundTripUs: exitUs, kernelInstructionsPerUs: speed } = host;
  return [
    { name: '/dev/kvm', state: 'ok', value: `API ${host.apiVersion}, back end ${host.backEnd}` },
    { name: 'CPU', state: 'ok', value: `${host.vendor}, guests see at most ${host.cpuModel}` },
    {
      name: 'exit round trip',
      state: 'ok',
      value: `${exitUs.toFixed(1)} us`,
    },
    host.emulatedKernelCode
      ? {
          name: 'guest kernel code',
          state: 'note',
          value: `emulated, ${speed.toFixed(1)} million instructions/s`,
          advice: 'Linux programs run at full speed all the same; bare guests are slow here.',
        }
      : { name: 'guest kernel code', state: 'ok', value: 'native' },
    {
      name: 'system calls arrive',
      state: 'ok',
      value: host.syscallArrives === 'cpl0' ? 'in ring 0' : 'in ring 3; both are served',
    },
    optional('register sharing', host.syncRegs, 'KVM_CAP_SYNC_REGS', 'Every exit costs about 15 us more.'),
    optional('dirty page ring', host.dirtyRing, 'KVM_CAP_DIRTY_LOG_RING', 'The slower bitmap is used.'),
    optional('immediate exit', host.immediateExit, 'KVM_CAP_IMMEDIATE_EXIT', 'Linux 4.13 or newer has it.'),
    optional(
      'memory on demand',
      host.pageFaults,
      'userfaultfd',
      'No `lockstep stream`, but for --download: be root, or give this user /dev/userfaultfd.',
    ),
    optional('performance counter', host.performanceCounter, 'exact branch counts', 'Nothing needs it.'),
  ];
}

function optional(name: string, there: boolean, what: string, advice: string): Check {
  return there ? { name, state: 'ok', value: what } : { name, state: 'note', value: `no ${what}`, advice };
}

function busybox(): Check {
  const there = existsSync('/bin/busybox');
  return there
    ? { name: 'busybox', state: 'ok', value: '/bin/busybox' }
    : {
        name: 'busybox',
        state: 'note',
        value: 'missing',
        advice: 'For the demo: apt-get install busybox-static',
      };
}

const MARKS = { ok: 'ok  ', note: 'note', bad: 'BAD ' };

function table(checks: Check[]): string {
  const width = Math.max(...checks.map(({ name }) => name.length));
  return checks
    .flatMap(({ name, state, value, advice }) => [
      `${MARKS[state]}  ${name.padEnd(width)}  ${value}`,
      ...(advice ? [`      ${' '.repeat(width)}  ${advice}`] : []),
    ])
    .join('\n');
}

async function allChecks(): Promise<{ checks: Check[]; host: HostProbe | null }> {
  const node: Check = { name: 'Node', state: 'ok', value: `${process.version}, ${process.arch}` };
  try {
    const host = await probe();
    return {
      checks: [node, { name: 'addon', state: 'ok', value: 'loads' }, ...kvmChecks(host), busybox()],
      host,
    };
  } catch (error) {
    if (!(error instanceof LockstepError)) throw error;
    const addon: Check = { name: 'addon', state: 'bad', value: error.message, advice: error.hint };
    return { checks: [node, addon, busybox()], host: null };
  }
}

/** `lockstep doctor`: exits 0 when machines can run here, 1 when not. */
export default async function doctor(flags: { json?: boolean }): Promise<number> {
  const { checks, host } = await allChecks();
  const usable = checks.every(({ state }) => state !== 'bad');
  if (flags.json) {
    process.stdout.write(`${JSON.stringify({ version: 1, usable, checks, host })}\n`);
  } else {
    const verdict = usable
      ? 'This host can run, record and mirror machines.'
      : 'This host cannot run machines yet.';
    process.stdout.write(`${table(checks)}\n\n${verdict}\n`);
  }
  return usable ? 0 : 1;
}
