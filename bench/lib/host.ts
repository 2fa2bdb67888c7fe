/** The machine that is measured on, and how much of it others used meanwhile. */
import { readFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { probe } from '../../lib/index.js';

export interface HostFacts {
  cpu: string;
  cores: number;
  kernel: string;
  node: string;
  kvm: string;
}

export async function hostFacts(): Promise<HostFacts> {
  const host = await probe();
  const code = host.emulatedKernelCode
    ? `guest code at CPL 0 emulated, ${host.kernelInstructionsPerUs.toFixed(1)} million instructions/s`
    : 'guest code at CPL 0 native';
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    kernel: release(),
    node: process.version,
    kvm: host.error || `${host.backEnd}, ${code}, exit round trip ${host.exitRoundTripUs.toFixed(1)} us`,
  };
}

const TICKS_PER_SECOND = 100;

interface CpuTimes {
  atMs: number;
  /** Core-seconds since boot that somebody used or a hypervisor took, and those of this process and its children. */
  busy: number;
  stolen: number;
  own: number;
}

function cpuTimes(): CpuTimes {
  const [user, nice, system, , , irq, softirq, steal] = (
    readFileSync('/proc/stat', 'latin1').split('\n')[0] ?? ''
  )
    .split(/\s+/)
    .slice(1)
    .map(Number) as [number, number, number, number, number, number, number, number];
  // After the name in parentheses: state is field 0, utime, stime, cutime, cstime are 11 to 14.
  const own =
    readFileSync('/proc/self/stat', 'latin1').split(') ')[1]?.split(' ').slice(11, 15).map(Number) ?? [];
  return {
    atMs: performance.now(),
    busy: (user + nice + system + irq + softirq) / TICKS_PER_SECOND,
    stolen: steal / TICKS_PER_SECOND,
    own: own.reduce((sum, ticks) => sum + ticks, 0) / TICKS_PER_SECOND,
  };
}

/** Cores that other processes, and the hypervisor below, used since this was called: near 0 in a quiet window. */
export function watchOthers(): () => { others: number; stolen: number } {
  const begin = cpuTimes();
  return () => {
    const end = cpuTimes();
    const seconds = (end.atMs - begin.atMs) / 1000;
    const others = (end.busy - begin.busy - (end.own - begin.own)) / seconds;
    return { others: Math.max(0, others), stolen: (end.stolen - begin.stolen) / seconds };
  };
}
