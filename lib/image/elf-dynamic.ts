/** What an ELF file tells the dynamic linker, and whether a file can be started at all. */
import { LockstepError } from '../errors.js';
import {
  damaged,
  type ElfFile,
  ET_DYN,
  ET_EXEC,
  fileOffsetOf,
  isElf,
  PF_X,
  PT_DYNAMIC,
  PT_LOAD,
  parseElf,
  stringAt,
  u64,
  within,
} from './elf.js';

const DT_NEEDED = 1;
const DT_STRTAB = 5;
const DT_SONAME = 14;
const DT_RPATH = 15;
const DT_RUNPATH = 29;
const DT_FLAGS_1 = 0x6ffffffb;
const DF_1_NODEFLIB = 0x800;

export interface ElfDynamic {
  /** DT_NEEDED, in order. */
  needed: string[];
  soname: string | null;
  /** Directories as they stand in the file: `$ORIGIN` is not expanded. */
  rpath: string[];
  runpath: string[];
  /** Linked with `-z nodefaultlib`: neither the cache nor default directories serve it. */
  noDefaultDirectories: boolean;
}

/** The dynamic section; empty lists for a static file. Throws ERR_LOCKSTEP_PROGRAM_NOT_RUNNABLE. */
export function readDynamic(elf: ElfFile): ElfDynamic {
  try {
    return read(elf);
  } catch (cause) {
    throw damaged(elf.name, cause);
  }
}

function read(elf: ElfFile): ElfDynamic {
  const values = new Map<number, number[]>();
  const section = elf.segments.find((s) => s.type === PT_DYNAMIC);
  const end = section === undefined ? 0 : Math.min(section.offset + section.fileBytes, elf.bytes.length);
  for (let at = section?.offset ?? 0; at + 16 <= end; at += 16) {
    // No tag of ours needs more than 32 bits; values may be anything, so only ours are read.
    const tag = elf.bytes.readUInt32LE(at);
    if (tag === 0) break;
    if (![DT_NEEDED, DT_STRTAB, DT_SONAME, DT_RPATH, DT_RUNPATH, DT_FLAGS_1].includes(tag)) continue;
    const list = values.get(tag) ?? [];
    list.push(u64(elf.bytes, at + 8));
    values.set(tag, list);
  }
  const table = values.get(DT_STRTAB)?.[0];
  const base = table === undefined ? null : fileOffsetOf(elf, table);
  const strings = (tag: number): string[] =>
    (values.get(tag) ?? []).map((offset) =>
      base === null ? '' : stringAt(elf.bytes, base + offset, elf.bytes.length),
    );
  const directories = (tag: number): string[] => (strings(tag)[0] ?? '').split(':').filter(Boolean);
  return {
    needed: strings(DT_NEEDED),
    soname: strings(DT_SONAME)[0] ?? null,
    rpath: directories(DT_RPATH),
    runpath: directories(DT_RUNPATH),
    noDefaultDirectories: ((values.get(DT_FLAGS_1)?.[0] ?? 0) & DF_1_NODEFLIB) !== 0,
  };
}

/** The file, when it is one whose code the guest could map: an x86-64 program or shared library. */
export function parseMappable(bytes: Uint8Array, name: string): ElfFile | null {
  if (!isElf(bytes)) return null;
  try {
    const elf = parseElf(bytes, name);
    return elf.type === ET_EXEC || elf.type === ET_DYN ? elf : null;
  } catch (error) {
    if (error instanceof LockstepError) return null;
    throw error;
  }
}

/** Throws ERR_LOCKSTEP_PROGRAM_NOT_RUNNABLE unless the guest kernel can start the file. */
export function requireProgram(elf: ElfFile): void {
  const { needed } = readDynamic(elf);
  const why =
    elf.type !== ET_EXEC && elf.type !== ET_DYN
      ? 'it is an object or core file'
      : elf.interpreter === null && needed.length > 0
        ? `it is a shared library that needs ${needed.join(', ')}`
        : elf.entry === 0
          ? 'it has no entry point'
          : !elf.segments.some((s) => s.type === PT_LOAD && (s.flags & PF_X) !== 0 && within(s, elf.entry))
            ? 'its entry point lies in no executable segment'
            : null;
  if (why !== null) {
    throw new LockstepError('ERR_LOCKSTEP_PROGRAM_NOT_RUNNABLE', `${elf.name} cannot be run: ${why}.`, {
      hint: 'Name a linked x86-64 Linux program.',
    });
  }
}

/** The same for a bare guest, which has nobody to load libraries. */
export function requireStaticProgram(elf: ElfFile): void {
  if (elf.interpreter !== null) {
    throw new LockstepError(
      'ERR_LOCKSTEP_PROGRAM_NOT_RUNNABLE',
      `${elf.name} is a dynamic program (dynamic linker ${elf.interpreter}), which a bare guest cannot be.`,
      { hint: 'Link it with -static, or run it as a Linux program.' },
    );
  }
  requireProgram(elf);
}
