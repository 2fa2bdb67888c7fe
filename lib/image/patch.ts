/** Replaces the sites of a program by an OUT to the monitor, and system calls by a CALL of the vDSO. */
import { callOf } from './calls.js';
import type { SiteName } from './decoder.js';
import {
  LS_PORT_CPUID,
  LS_PORT_RDPID,
  LS_PORT_RDRAND32,
  LS_PORT_RDRAND64,
  LS_PORT_RDSEED32,
  LS_PORT_RDSEED64,
  LS_PORT_RDTSC,
  LS_PORT_RDTSCP,
} from './ports.js';
import type { Site, Sites } from './sites.js';

const OUT_IMM8 = 0xe6;
const NOP = 0x90;

const PORTS: Partial<Record<SiteName, number>> = {
  cpuid: LS_PORT_CPUID,
  rdtsc: LS_PORT_RDTSC,
  rdtscp: LS_PORT_RDTSCP,
  rdrand32: LS_PORT_RDRAND32,
  rdrand64: LS_PORT_RDRAND64,
  rdseed32: LS_PORT_RDSEED32,
  rdseed64: LS_PORT_RDSEED64,
  rdpid: LS_PORT_RDPID,
};

/** What stands at a site afterwards: OUT imm8 and NOPs, as long as the instruction with its prefixes was. */
export function replacementOf(site: Pick<Site, 'name' | 'length' | 'register'>): Uint8Array {
  const port = PORTS[site.name];
  if (port === undefined || site.length < 2 || site.register < 0 || site.register > 15) {
    throw new RangeError(`no replacement for ${site.name} of ${site.length} bytes`);
  }
  const bytes = new Uint8Array(site.length).fill(NOP);
  bytes[0] = OUT_IMM8;
  bytes[1] = port + site.register;
  return bytes;
}

/** A copy of the file with every site replaced; nothing else of it changes. */
export function applyPatches(
  content: Uint8Array,
  { replaced, calls }: Pick<Sites, 'replaced' | 'calls'>,
): Uint8Array {
  const patched = Uint8Array.from(content);
  for (const site of replaced) patched.set(replacementOf(site), site.offset);
  for (const call of calls) patched.set(callOf(call), call.offset);
  return patched;
}
