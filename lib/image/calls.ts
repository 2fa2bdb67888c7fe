/**
 * Finds the system calls of a program that can go through the guest's vDSO (native/guest/vdso.h): SYSCALL takes up to
 * 5 us on hosts where it passes through the host's kernel, a CALL takes 30 ns. `mov $number, %eax; syscall` has room for
 * a CALL through the vDSO's table, and so has `xor %eax, %eax; syscall` with the comparison that follows it in C
 * libraries.
 *
 * Unlike the instruction the CALL writes the eight bytes below RSP, and it is longer. So one is replaced only where
 * it is proven that nothing else is changed by that: the function decodes from its first byte to its last; nothing in
 * it, and no branch of the file, leads between the two instructions; it jumps nowhere that cannot be seen; and it keeps
 * nothing below RSP. The last holds (System V ABI, 3.2.2, the red zone) where no operand lies below RSP, and
 * either the function calls another (compilers use the red zone only in those that do not), or RSP's value
 * reaches no other register. Everything else is left as it is, which is never wrong.
 */
import { branches, shortBranches } from './branches.js';
import { CodeDecoder, Flow } from './decoder.js';
import type { FunctionRange } from './eh-frame.js';
import type { ElfFile, ElfSegment } from './elf.js';
import type { Functions } from './functions.js';
import { LS_VDSO_CALLS, LS_VDSO_TABLE } from './ports.js';

/** Instructions to replace by a CALL. Addresses are the file's own virtual addresses. */
export interface CallSite {
  address: number;
  /** Where its first byte stands in the file. */
  offset: number;
  /** Of all bytes that are replaced. */
  length: number;
  /** Of the system call. */
  number: number;
}

const CALL_BYTES = 7;
const SYSCALL = Buffer.from([0x0f, 0x05]);
const MOV_EAX = 0xb8;
/** Both encodings of `xor %eax, %eax`. */
const XOR_EAX = [0xc031, 0xc033];
/** `cmp $-4096, %rax` */
const COMPARE = Buffer.from([0x48, 0x3d, 0x00, 0xf0, 0xff, 0xff]);
/** `nopl (%rax)` */
const NOP3 = [0x0f, 0x1f, 0x00];

/**
 * rt_sigreturn, clone, fork, vfork and clone3 return somewhere else or on another stack, munmap may have unmapped the
 * stack.
 */
const NEVER: ReadonlySet<number> = new Set([11, 15, 56, 57, 58, 435]);

/** What could be replaced, by its bytes. */
function candidates(bytes: Buffer, segment: ElfSegment): CallSite[] {
  const found: CallSite[] = [];
  const end = segment.offset + segment.fileBytes;
  const add = (offset: number, length: number, number: number) => {
    if (offset < segment.offset || offset + length > end) return;
    if (number >= LS_VDSO_CALLS || NEVER.has(number)) return;
    found.push({ address: offset - segment.offset + segment.vaddr, offset, length, number });
  };
  for (
    let at = bytes.indexOf(SYSCALL, segment.offset);
    at >= 0 && at < end;
    at = bytes.indexOf(SYSCALL, at + 1)
  ) {
    if (at >= 5 && bytes[at - 5] === MOV_EAX) add(at - 5, 7, bytes.readUInt32LE(at - 4));
    else if (at >= 2 && XOR_EAX.includes(bytes.readUInt16LE(at - 2))) {
      if (bytes.compare(COMPARE, 0, COMPARE.length, at + 2, at + 2 + COMPARE.length) === 0)
        add(at - 2, 4 + COMPARE.length, 0);
    }
  }
  return found;
}

/** Whether a function allows it, and where it leads. */
interface Look {
  /** Of its instructions. */
  starts: Set<number>;
  targets: Set<number>;
}

/** null when something in the function forbids to replace anything, or cannot be understood. */
function look(decoder: CodeDecoder, segment: ElfSegment, range: FunctionRange, entries: number): Look | null {
  const result: Look = { starts: new Set(), targets: new Set() };
  if (range.start < segment.vaddr || range.end > segment.vaddr + segment.fileBytes) return null;
  let calls = false;
  let copies = false;
  let at = range.start;
  decoder.at(at - segment.vaddr, at);
  while (at < range.end) {
    decoder.step();
    const { flow } = decoder;
    if (flow === Flow.invalid || decoder.jumpsBlindly) return null;
    if (flow === Flow.branch || flow === Flow.jump || flow === Flow.call) result.targets.add(decoder.target);
    calls ||= flow === Flow.call && !decoder.isSystemCall;
    const use = decoder.stackUse;
    if (use === 'below') return null;
    copies ||= use === 'copied';
    result.starts.add(at);
    at += decoder.length;
  }
  if (at !== range.end || (copies && (!calls || entries > 0))) return null;
  return result;
}

/** All of a segment, in order. */
export function findCalls(elf: ElfFile, segment: ElfSegment, functions: Functions): CallSite[] {
  const sites = candidates(elf.bytes, segment);
  if (sites.length === 0) return [];
  const decoder = new CodeDecoder(elf.bytes.subarray(segment.offset, segment.offset + segment.fileBytes));
  const looks = new Map<FunctionRange, Look | null>();
  const lookAt = (range: FunctionRange): Look | null => {
    let seen = looks.get(range);
    if (seen === undefined) {
      seen = look(decoder, segment, range, functions.startsIn(range).length);
      looks.set(range, seen);
    }
    return seen;
  };
  try {
    const proven = sites.filter((site) => {
      const range = functions.at(site.address);
      const seen = range && lookAt(range);
      if (!seen || !isWhole(site, range, seen)) return false;
      if (insides(site).some((address) => seen.targets.has(address))) return false;
      const [first, last] = [site.address + 1, site.address + site.length - 1];
      return !shortBranches(elf.bytes, segment, first, last).some(({ from }) => {
        const other = functions.at(from);
        return other === null || (other !== range && lookAt(other)?.starts.has(from) !== false);
      });
    });
    return notBranchedInto(elf, segment, functions, proven);
  } finally {
    decoder.free();
  }
}

/** What is replaced begins and ends with instructions of the function. */
function isWhole({ address, length }: CallSite, range: FunctionRange, { starts }: Look): boolean {
  const last = address + length;
  return starts.has(address) && (last === range.end || starts.has(last));
}

/** Where something could arrive between the instructions. */
function insides({ address, length }: CallSite): number[] {
  return Array.from({ length: length - 1 }, (_, i) => address + 1 + i);
}

function notBranchedInto(
  elf: ElfFile,
  segment: ElfSegment,
  functions: Functions,
  sites: CallSite[],
): CallSite[] {
  const of = new Map<number, CallSite>();
  for (const site of sites) for (const address of insides(site)) of.set(address, site);
  const hit = new Set<CallSite>();
  const accept = (target: number): boolean => {
    const site = of.get(target);
    if (site) hit.add(site);
    return site !== undefined;
  };
  branches(elf.bytes, segment, accept);
  for (const start of functions.starts) accept(start);
  accept(elf.entry);
  return sites.filter((site) => !hit.has(site)).sort((a, b) => a.address - b.address);
}

/** What stands there afterwards: `call *entry`. */
export function callOf({ length, number }: CallSite): Uint8Array {
  const entry = LS_VDSO_TABLE + 16 * number + (length > CALL_BYTES ? 8 : 0);
  const call = [0xff, 0x14, 0x25, entry & 0xff, entry >> 8, 0, 0];
  return Uint8Array.from(length > CALL_BYTES ? [...call, ...NOP3] : call);
}
