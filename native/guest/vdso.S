/*
 * What stands in the program's memory without being the program's: a vDSO as Linux has one, and a table that leads
 * into it.
 *
 * A SYSCALL goes through the host's kernel on some hosts (1.3 to 5.5 us). Program and kernel share one address space
 * and one privilege level, so a jump does as well (30 ns). For each call there is a function here that sets
 * RAX, RCX and R11 as the instruction would and jumps to syscall_native. Programs come to it in two ways: C
 * libraries look up __vdso_clock_gettime and its kin; and where the packer proved that it may, it put
 * `call *entry`, through the table at LS_VDSO_TABLE, in place of `mov $number, %eax; syscall` (vdso.h,
 * lib/image/calls.ts).
 *
 * The page frames are the kernel's own; exec.c maps them, read-only, at the addresses that vdso.h names. Layout
 * of an ELF file: System V ABI, chapters 4 and 5; of symbol versions: LSB 5.0 Core, 10.7; of .eh_frame: 10.6.
 */
#include "vdso.h"

#define CLOCK_GETTIME 228
#define CLOCK_GETRES 229
#define GETTIMEOFDAY 96
#define TIME 201
#define GETCPU 309

.section .vdso, "a"
.balign 4096
.globl vdso_start, vdso_end, vdso_table
vdso_start:

/* ---- the file's headers ------------------------------------------------------------------- */
    .byte 0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0
    .short 3, 62                        /* ET_DYN, EM_X86_64 */
    .long 1
    .quad 0, segments - vdso_start, 0   /* entry, program headers, section headers */
    .long 0
    .short 64, 56, 3, 64, 0, 0
segments:
    .long 1, 5                          /* PT_LOAD, readable and executable */
    .quad 0, 0, 0, vdso_end - vdso_start, vdso_end - vdso_start, 4096
    .long 2, 4                          /* PT_DYNAMIC */
    .quad dynamic - vdso_start, dynamic - vdso_start, dynamic - vdso_start
    .quad dynamic_end - dynamic, dynamic_end - dynamic, 8
    .long 0x6474e550, 4                 /* PT_GNU_EH_FRAME */
    .quad unwind_index - vdso_start, unwind_index - vdso_start, unwind_index - vdso_start
    .quad unwind_index_end - unwind_index, unwind_index_end - unwind_index, 4

.balign 8
dynamic:
    .quad 14, soname - strings          /* DT_SONAME */
    .quad 4, hash - vdso_start          /* DT_HASH */
    .quad 5, strings - vdso_start       /* DT_STRTAB */
    .quad 6, symbols - vdso_start       /* DT_SYMTAB */
    .quad 10, strings_end - strings     /* DT_STRSZ */
    .quad 11, 24                        /* DT_SYMENT */
    .quad 0x6ffffff0, versions - vdso_start      /* DT_VERSYM */
    .quad 0x6ffffffc, definitions - vdso_start   /* DT_VERDEF */
    .quad 0x6ffffffd, 2                 /* DT_VERDEFNUM */
    .quad 0, 0
dynamic_end:

/* ---- symbols ---------------------------------------------------------------------------------- */
.macro SYMBOL name, number
    .long \name - strings
    .byte 0x12, 0                       /* global function */
    .short 1                            /* defined, in a section that nobody reads */
    .quad plain_calls - vdso_start + \number * LS_VDSO_CALL_BYTES, LS_VDSO_CALL_BYTES
.endm
symbols:
    .quad 0, 0, 0
    SYMBOL name_clock_gettime, CLOCK_GETTIME
    SYMBOL name_clock_getres, CLOCK_GETRES
    SYMBOL name_gettimeofday, GETTIMEOFDAY
    SYMBOL name_time, TIME
    SYMBOL name_getcpu, GETCPU
strings:
    .byte 0
soname: .asciz "linux-vdso.so.1"
version: .asciz "LINUX_2.6"
name_clock_gettime: .asciz "__vdso_clock_gettime"
name_clock_getres: .asciz "__vdso_clock_getres"
name_gettimeofday: .asciz "__vdso_gettimeofday"
name_time: .asciz "__vdso_time"
name_getcpu: .asciz "__vdso_getcpu"
strings_end:

.balign 8
hash:                                   /* one bucket with all five in a chain */
    .long 1, 6
    .long 1
    .long 0, 2, 3, 4, 5, 0
versions:
    .short 0, 2, 2, 2, 2, 2
.balign 8
definitions:
    .short 1, 1, 1, 1                   /* the file's own name */
    .long 0x0deebfa1                    /* the names' ELF hashes */
    .long 20, 28
    .long soname - strings, 0
    .short 1, 0, 2, 1                   /* LINUX_2.6 */
    .long 0x03ae75f6
    .long 20, 0
    .long version - strings, 0

/* ---- how to get out of a call: nothing was pushed, so one rule holds at every instruction ------- */
.balign 8
unwind:
    .long unwind_function - . - 4       /* CIE */
    .long 0
    .byte 1
    .asciz "zR"
    .uleb128 1
    .sleb128 -8
    .uleb128 16                         /* the return address's column */
    .uleb128 1
    .byte 0x1b                          /* addresses are 4 bytes, relative to where they stand */
    .byte 0x0c, 7, 8                    /* the frame begins at RSP + 8 */
    .byte 0x80 + 16, 1                  /* and the return address lies right below */
    .balign 4
unwind_function:
    .long unwind_end - . - 4            /* FDE */
    .long . - unwind
    .long plain_calls - .
    .long calls_end - plain_calls
    .uleb128 0
    .balign 4
unwind_end:
    .long 0
unwind_index:
    .byte 1, 0x1b, 0x03, 0x3b           /* encodings: relative, 4 bytes; count 4 bytes; relative to the index */
    .long unwind - .
    .long 1
    .long plain_calls - unwind_index, unwind_function - unwind_index
unwind_index_end:

/* ---- the calls ---------------------------------------------------------------------------------- */
/* A call that a signal broke off is restarted two bytes before where it returns to: at a SYSCALL. */
.macro CALL number, compares
    .balign LS_VDSO_CALL_BYTES
    mov $\number, %eax
    lea 1f(%rip), %rcx
    jmp into_kernel
    syscall
1:
.if \compares
    cmp $-4096, %rax
.endif
    ret
.endm
.balign 64
into_kernel:
    movabs $syscall_native, %r11
    jmp *%r11
.balign LS_VDSO_CALL_BYTES
plain_calls:
.set number, 0
.rept LS_VDSO_CALLS
    CALL number, 0
    .set number, number + 1
.endr
.balign LS_VDSO_CALL_BYTES
comparing_calls:
.set number, 0
.rept LS_VDSO_CALLS
    CALL number, 1
    .set number, number + 1
.endr
calls_end:
.balign 4096
vdso_end:

/* Two addresses a call. */
vdso_table:
.set number, 0
.rept LS_VDSO_CALLS
    .quad LS_VDSO + (plain_calls - vdso_start) + number * LS_VDSO_CALL_BYTES
    .quad LS_VDSO + (comparing_calls - vdso_start) + number * LS_VDSO_CALL_BYTES
    .set number, number + 1
.endr
.balign 4096
.section .note.GNU-stack, "", @progbits
