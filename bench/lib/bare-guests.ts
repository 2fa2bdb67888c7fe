/** Guests of a few bytes, assembled by hand: what each does stands beside its bytes. */
import { Image } from '../../lib/index.js';

const EXIT = '66ba0406 31c0 ee'; // mov $0x604,%dx; xor %eax,%eax; out %al,%dx
const EXIT_16 = 'ba0406 6631c0 ee f4'; // the same in 16-bit code; hlt

function assemble(text: string, ...numbers: number[]): Uint8Array {
  const rest = [...numbers];
  const hex = text.replaceAll(/N/g, () => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(rest.shift() as number);
    return bytes.toString('hex');
  });
  return Buffer.from(hex.replaceAll(/\s/g, ''), 'hex');
}

const flat = (bytes: Uint8Array): Promise<Image> =>
  Image.fromFlat({ bytes, mode: 'long', loadAddress: 0x10000, memoryMiB: 64 });

/** `count` times OUT to a port where nothing is: an access, and nothing else. */
export const outLoop = (count: number): Promise<Image> =>
  // mov $N,%ecx; 1: out %al,$0x80; dec %ecx; jnz 1b
  flat(assemble(`b9N e680 ffc9 75fa ${EXIT}`, count));

/** `count` times IN from the clock: each brings time, and so is an event. */
export const clockLoop = (count: number): Promise<Image> =>
  // mov $N,%ecx; mov $0x700,%dx; 1: in %dx,%eax; dec %ecx; jnz 1b
  flat(assemble(`b9N 66ba0007 ed ffc9 75fb ${EXIT}`, count));

/** `rounds` times: writes to `pages` pages, then one event. */
export const dirtyLoop = (rounds: number, pages: number): Promise<Image> =>
  // mov $N,%ebp; mov $0x700,%dx; xor %ebx,%ebx; 1: mov $0x200000,%edi; mov $N,%ecx; inc %ebx
  // 2: mov %ebx,(%rdi); add $4096,%edi; dec %ecx; jnz 2b; in %dx,%eax; dec %ebp; jnz 1b
  flat(
    assemble(
      `bdN 66ba0007 31db bf00002000 b9N ffc3 891f 81c700100000 ffc9 75f4 ed ffcd 75e3 ${EXIT}`,
      rounds,
      pages,
    ),
  );

/** In real mode, for QEMU too: `count` turns of five instructions, then power off. */
export const computeCode = (count: number): Uint8Array =>
  // mov $N,%ecx; 1: imul $16807,%ebx; add %ecx,%ebx; xor %ebx,%esi; dec %ecx; jnz 1b
  assemble(`66b9N 6669dba7410000 6601cb 6631de 6649 75ef ${EXIT_16}`, count);

/** In real mode, for QEMU too: `count` bytes to the first serial port, one OUT each, then power off. */
export const serialCode = (count: number): Uint8Array =>
  // mov $N,%ecx; mov $0x3f8,%dx; 1: mov %cl,%al; out %al,%dx; dec %ecx; jnz 1b
  assemble(`66b9N baf803 88c8 ee 6649 75f9 ${EXIT_16}`, count);

export const realMode = (bytes: Uint8Array): Promise<Image> =>
  Image.fromFlat({ bytes, mode: 'real', loadAddress: 0x7c00, memoryMiB: 16 });
