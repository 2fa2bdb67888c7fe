/** The instruction decoder (iced-x86, WebAssembly), loaded on first use: 40 ms that many images never need. */
import { createRequire } from 'node:module';
import type { Instruction } from 'iced-x86';

type Iced = typeof import('iced-x86');

/** What an instruction does to the flow of control, as far as finding code needs it. */
export const Flow = { next: 0, call: 1, branch: 2, jump: 3, stop: 4, invalid: 5, privileged: 6 } as const;
export type Flow = (typeof Flow)[keyof typeof Flow];

/** A kind of instruction whose result differs between runs or hosts. */
export type SiteName = (typeof REPLACED)[number][0] | (typeof WATCHED)[number][0];

/** iced-x86's names of the encodings that the packer replaces. */
const REPLACED = [
  ['cpuid', ['Cpuid']],
  ['rdtsc', ['Rdtsc']],
  ['rdtscp', ['Rdtscp']],
  ['rdrand32', ['Rdrand_r32']],
  ['rdrand64', ['Rdrand_r64']],
  ['rdseed32', ['Rdseed_r32']],
  ['rdseed64', ['Rdseed_r64']],
  ['rdpid', ['Rdpid_r32', 'Rdpid_r64']],
] as const;

/** And of those it leaves and lists. */
const WATCHED = [
  ['rdrand16', ['Rdrand_r16']],
  ['rdseed16', ['Rdseed_r16']],
  ['xsave', ['Xsave_mem', 'Xsave64_mem']],
  ['xsavec', ['Xsavec_mem', 'Xsavec64_mem']],
  ['xsaveopt', ['Xsaveopt_mem', 'Xsaveopt64_mem']],
  ['xsaves', ['Xsaves_mem', 'Xsaves64_mem']],
  ['xgetbv', ['Xgetbv']],
  ['rdpru', ['Rdpru']],
  ['sgdt', ['Sgdt_m1632_16', 'Sgdt_m1632', 'Sgdt_m1664']],
  ['sidt', ['Sidt_m1632_16', 'Sidt_m1632', 'Sidt_m1664']],
  ['sldt', ['Sldt_rm16', 'Sldt_r32m16', 'Sldt_r64m16']],
  ['str', ['Str_rm16', 'Str_r32m16', 'Str_r64m16']],
  ['smsw', ['Smsw_rm16', 'Smsw_r32m16', 'Smsw_r64m16']],
  ['lsl', ['Lsl_r16_rm16', 'Lsl_r32_r32m16', 'Lsl_r64_r64m16']],
  ['xbegin', ['Xbegin_rel16', 'Xbegin_rel32']],
  ['tpause', ['Tpause_r32', 'Tpause_r64']],
  ['umwait', ['Umwait_r32', 'Umwait_r64']],
] as const;

const REPLACED_NAMES: ReadonlySet<string> = new Set(REPLACED.map(([name]) => name));

/** True for the instructions that the packer replaces by an OUT. */
export function isReplaceable(name: SiteName): boolean {
  return REPLACED_NAMES.has(name);
}

/** One segment's code. `at` moves; the getters speak of the instruction that `step` decoded last. */
export class CodeDecoder {
  readonly #decoder;
  readonly #instruction: Instruction;
  readonly #iced: Iced;
  readonly #names: Map<number, SiteName>;
  readonly #flows: Int8Array;
  #code = 0;
  /** Bytes of the last instruction. */
  length = 0;
  flow: Flow = Flow.invalid;

  constructor(bytes: Uint8Array) {
    this.#iced = load();
    this.#decoder = new this.#iced.Decoder(64, bytes, this.#iced.DecoderOptions.None);
    this.#instruction = new this.#iced.Instruction();
    this.#names = tables.names;
    this.#flows = tables.flows;
  }

  /** Goes to a byte of the segment, which stands at `address`. */
  at(offset: number, address: number): void {
    this.#decoder.position = offset;
    this.#decoder.ip = BigInt(address);
  }

  step(): void {
    this.#decoder.decodeOut(this.#instruction);
    this.length = this.#instruction.length;
    this.#code = this.#instruction.code;
    let flow = this.#flows[this.#code] ?? -1;
    if (flow < 0) {
      flow = this.#classify();
      this.#flows[this.#code] = flow;
    }
    this.flow = flow as Flow;
  }

  /** The kind of the last instruction; undefined for an ordinary one. */
  get site(): SiteName | undefined {
    return this.#names.get(this.#code);
  }

  /** The number (0-15) of the first operand's register. */
  get register(): number {
    const { Register } = this.#iced;
    const register = this.#instruction.op0Register;
    if (register >= Register.RAX && register <= Register.R15) return register - Register.RAX;
    if (register >= Register.EAX && register <= Register.R15D) return register - Register.EAX;
    return register - Register.AX;
  }

  /** Where a direct branch or call goes. */
  get target(): number {
    return Number(this.#instruction.nearBranchTarget);
  }

  /** Whether it is a SYSCALL, whose flow is a call's. */
  get isSystemCall(): boolean {
    return this.#code === this.#iced.Code.Syscall;
  }

  /** Whether it goes on at a place that it does not name. */
  get jumpsBlindly(): boolean {
    return this.#instruction.flowControl === this.#iced.FlowControl.IndirectBranch;
  }

  /**
   * What the last instruction does with the stack: `below` when an operand lies below RSP, `copied` when RSP's value
   * gets into another register or into memory.
   */
  get stackUse(): 'below' | 'copied' | undefined {
    const { Code, OpKind, Register } = this.#iced;
    const i = this.#instruction;
    const isStack = (register: number) =>
      register === Register.RSP || register === Register.ESP || register === Register.SP;
    for (let operand = 0; operand < i.opCount; operand++) {
      const kind = i.opKind(operand);
      if (kind === OpKind.Register && operand > 0 && isStack(i.opRegister(operand))) return 'copied';
      if (kind !== OpKind.Memory || !isStack(i.memoryBase)) continue;
      if (this.#code === Code.Lea_r64_m || this.#code === Code.Lea_r32_m)
        return isStack(i.op0Register) ? undefined : 'copied';
      if (BigInt.asIntN(64, i.memoryDisplacement) < 0n) return 'below';
    }
    return this.#code === Code.Push_r64 && isStack(i.op0Register) ? 'copied' : undefined;
  }

  /** An address that the last instruction puts into RDI, or null: how _start names main. */
  get addressIntoRdi(): number | null {
    const { Code, Register } = this.#iced;
    const i = this.#instruction;
    if (i.op0Register !== Register.RDI && i.op0Register !== Register.EDI) return null;
    if (this.#code === Code.Lea_r64_m) return i.isIpRelMemoryOperand ? Number(i.ipRelMemoryAddress) : null;
    if (this.#code === Code.Mov_rm64_imm32 || this.#code === Code.Mov_r32_imm32) return i.immediate32;
    return null;
  }

  /** Frees the decoder's memory inside WebAssembly. */
  free(): void {
    this.#decoder.free();
    this.#instruction.free();
  }

  #classify(): Flow {
    const { FlowControl, Code } = this.#iced;
    const i = this.#instruction;
    if (this.#code === Code.INVALID) return Flow.invalid;
    if (this.#code === Code.Hlt) return Flow.stop;
    switch (i.flowControl) {
      case FlowControl.UnconditionalBranch:
        return Flow.jump;
      case FlowControl.ConditionalBranch:
        return Flow.branch;
      case FlowControl.XbeginXabortXend:
        return this.#names.get(this.#code) === 'xbegin' ? Flow.branch : Flow.next;
      case FlowControl.Call:
        return Flow.call;
      case FlowControl.IndirectBranch:
      case FlowControl.Return:
      case FlowControl.Exception:
        return Flow.stop;
      default:
        return i.isPrivileged ? Flow.privileged : Flow.next;
    }
  }
}

interface Tables {
  names: Map<number, SiteName>;
  /** Flow by code, -1 where not asked yet: two calls into WebAssembly saved per instruction. */
  flows: Int8Array;
}

let iced: Iced | null = null;
let tables: Tables = { names: new Map(), flows: new Int8Array(0) };

function load(): Iced {
  if (iced !== null) return iced;
  iced = createRequire(import.meta.url)('iced-x86') as Iced;
  const names = new Map<number, SiteName>();
  for (const [name, codes] of [...REPLACED, ...WATCHED])
    for (const code of codes) names.set(iced.Code[code], name);
  const count = Object.keys(iced.Code).length / 2;
  tables = { names, flows: new Int8Array(count).fill(-1) };
  return iced;
}
