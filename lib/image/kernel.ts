/** The guest kernel's place in an image. */
import { LockstepError } from '../errors.js';
import { type ElfSegment, PT_LOAD, parseElf } from './elf.js';
import { LS_ABI_VERSION, LS_DIRECT_MAP, LS_GPA_KERNEL } from './ports.js';

export interface KernelSegments {
  segments: { gpa: number; bytes: Uint8Array }[];
  /** Guest physical address after its last byte, zeroed memory included. */
  end: number;
}

/**
 * The loadable segments of the kernel's ELF file, by guest physical address.
 * Throws ERR_LOCKSTEP_NOT_BUILT when the bytes are no kernel of this version.
 */
export function kernelSegments(kernel: Uint8Array): KernelSegments {
  let loads: ElfSegment[];
  try {
    loads = parseElf(kernel, 'the guest kernel').segments.filter(
      (s) => s.type === PT_LOAD && s.memoryBytes > 0,
    );
  } catch (cause) {
    throw notAKernel('is no ELF file', cause);
  }
  const header = loads.find((s) => gpaOf(s) === LS_GPA_KERNEL);
  if (header === undefined) throw notAKernel('has no segment at its load address');
  const start = Buffer.from(kernel.buffer, kernel.byteOffset + header.offset, header.fileBytes);
  if (start.length < 16 || start.toString('latin1', 0, 8) !== 'LSKERN1\0') throw notAKernel('has no header');
  const version = start.readUInt32LE(8);
  if (version !== LS_ABI_VERSION) throw notAKernel(`has ABI version ${version}, not ${LS_ABI_VERSION}`);
  return {
    segments: loads.map((s) => ({ gpa: gpaOf(s), bytes: kernel.subarray(s.offset, s.offset + s.fileBytes) })),
    end: Math.max(...loads.map((s) => gpaOf(s) + s.memoryBytes)),
  };
}

/** The kernel is linked into the direct map of all memory, or at its physical address. */
function gpaOf(segment: ElfSegment): number {
  return segment.vaddr >= LS_DIRECT_MAP ? segment.vaddr - LS_DIRECT_MAP : segment.paddr;
}

function notAKernel(why: string, cause?: unknown): LockstepError {
  return new LockstepError('ERR_LOCKSTEP_NOT_BUILT', `The guest kernel ${why}.`, {
    cause,
    hint: 'Run npm run build.',
  });
}
