/*
 * What the kernel maps for the program beside its own (vdso.S): a vDSO, and low enough for an absolute
 * operand a table of two addresses for each call below LS_VDSO_CALLS. Calling the first of call N does what
 * `mov $N, %eax; syscall` does, but for the eight bytes below RSP; the second then compares RAX with -4096,
 * too.
 */
#ifndef LOCKSTEP_GUEST_VDSO_H
#define LOCKSTEP_GUEST_VDSO_H

#define LS_VDSO 0x7dfffe000000
#define LS_VDSO_CALL_BYTES 32
#define LS_VDSO_CALLS 452
#define LS_VDSO_TABLE 0xe000

#endif
