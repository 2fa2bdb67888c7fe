/*
 * The contract between the guest kernel (native/guest, freestanding C) and the
 * virtual machine monitor (native/, C++). Both include this file; neither knows
 * anything else about the other. All addresses named GPA are guest physical.
 *
 * The monitor builds the descriptor tables and a direct map of all memory, copies
 * the image's segments in, and enters the kernel at CPL 3. The kernel leaves only by
 * OUT to one of the LS_PORT_ ports below.
 */
#ifndef LOCKSTEP_GUEST_ABI_H
#define LOCKSTEP_GUEST_ABI_H

#include <stdint.h>

#include "vdso.h"

#define LS_ABI_VERSION 1

/* ---- memory layout -------------------------------------------------------------- */
#define LS_GPA_GDT 0x1000      /* selectors below; built by the monitor */
#define LS_GPA_TSS 0x2000      /* TSS and I/O permission bitmap, up to 0x4fff */
#define LS_GPA_IDT 0x5000      /* gates point at ls_kernel_header.vectors */
#define LS_GPA_EXCHANGE 0x6000 /* struct ls_exchange, one page */
#define LS_GPA_BOOT 0x7000     /* struct ls_boot, one page */
/* TSS.RSP0 points at the end of this page. The CPU pushes the fault frame there; the
 * IRET frame that reflects a fault to CPL 3 stands at LS_GPA_REFLECT, built once by
 * the monitor: { fault_entry, 0x33, 0x2, 0, 0x2b } (RIP CS RFLAGS RSP SS). */
#define LS_GPA_FAULT_STACK 0x8000
#define LS_GPA_REFLECT 0x9000
#define LS_GPA_TABLES 0x10000  /* page tables of the direct map, up to 0xfffff */
#define LS_GPA_KERNEL 0x100000 /* the kernel's ELF segments; ls_kernel_header comes first */

/* All RAM, 2 MiB pages, user-accessible, writable, A and D preset. PML4 slot 252; the
 * kernel edits the other slots of the same PML4 (at LS_GPA_TABLES) for the program. */
#define LS_DIRECT_MAP 0x7e0000000000ull
#define LS_USER_TOP 0x7dfffffff000ull /* end of the program's address space */
#define LS_MMAP_MIN 0x10000           /* and nothing below is its */

/* ---- segment selectors ---------------------------------------------------------- */
#define LS_SEL_KERNEL_CODE 0x10 /* CPL 0, 64-bit: the fault stubs only */
#define LS_SEL_KERNEL_DATA 0x18
#define LS_SEL_USER_DATA 0x2b
#define LS_SEL_USER_CODE 0x33
#define LS_SEL_TSS 0x40
/* STAR = 0x23 << 48 | 0x10 << 32, LSTAR = syscall_entry, SFMASK = 0x40500. */

#define LS_VECTORS 34
/* Stands at LS_GPA_KERNEL; written at link time, read by the monitor before the start. */
struct ls_kernel_header {
    char magic[8]; /* "LSKERN1" */
    uint32_t abi_version;
    uint32_t reserved;
    uint64_t entry; /* CPL 3, RSP = stack_top, interrupts on, DF clear */
    uint64_t stack_top;
    uint64_t syscall_entry;       /* for LSTAR; serves arrival at CPL 3 and at CPL 0 */
    uint64_t fault_entry;         /* CPL 3 side of every exception */
    uint64_t vectors[LS_VECTORS]; /* CPL 0 stubs for IDT gates 0..33; 0: no gate; 3 has DPL 3 */
    uint64_t unknown_syscalls;    /* address of uint32_t[512]: calls by number answered ENOSYS */
    uint64_t syscall_count;       /* address of uint64_t: all system calls so far */
};

/* ---- boot block, LS_GPA_BOOT ------------------------------------------------------ */
#define LS_BOOT_MAGIC 0x31544f4f42534cull /* "LSBOOT1" little-endian */
struct ls_boot {
    uint64_t magic;
    uint64_t ram_bytes;   /* filled in by the monitor; all else by the image packer */
    uint64_t archive_gpa; /* struct ls_archive and what follows it: the initial file system */
    uint64_t archive_bytes;
    uint64_t free_gpa;    /* first page after everything the image loaded */
    uint64_t strings_gpa; /* argc + envc + 2 NUL-terminated strings: argv..., env..., cwd, exe */
    uint32_t argc, envc;
    uint32_t xcr0;          /* monitor: the model's XCR0, mask for XSAVE */
    uint32_t hwcap;         /* monitor: AT_HWCAP (CPUID 1 EDX of the model) */
    uint32_t hwcap2;        /* monitor: AT_HWCAP2 */
    uint32_t flags;         /* monitor: LS_BOOT_ */
    uint16_t rows, columns; /* monitor: terminal size when a channel is a terminal */
    uint32_t reserved;
    uint8_t random[32]; /* monitor: AT_RANDOM, and the seed of the kernel's own needs */
    /* Monitor: the network card, virtio-net on virtio-mmio; 0: none. Its page is mapped at LS_DIRECT_MAP +
     * net_mmio_gpa. It takes what lies in its transmit queue, and puts packets into its receive queue, at
     * every LS_PORT_EXCHANGE, so no notification is needed; a packet that finds a receive buffer ends
     * LS_EX_WAIT. It raises no interrupt. Addresses are in network byte order; gateway 0: none. With
     * LS_NET_DHCP the kernel asks for them before it starts the program. */
    uint64_t net_mmio_gpa;
    uint8_t mac[6];
    uint16_t mtu;
    uint32_t ip, netmask, gateway;
    uint32_t net_flags; /* LS_NET_ */
};
#define LS_NET_DHCP 1u

/* ---- the archive: the initial file system -------------------------------------------------
 * struct ls_archive, its entries, and their names: small, and apart from the contents, so that finding a
 * file touches no other's bytes. Entry 0 is the root. The entries of a directory stand side by side, sorted
 * by the bytes of their names, somewhere behind the directory's own, so that looking into one touches no
 * other. Contents of a page or more begin at a page, and nothing else shares their last one, so they can be
 * mapped where they lie. Everything belongs to root. */
#define LS_ARCHIVE_MAGIC 0x3153454c4946534cull /* "LSFILES1" little-endian */
struct ls_archive {
    uint64_t magic;
    uint32_t count;      /* entries, which follow */
    uint32_t name_bytes; /* names, without terminators, which follow the entries */
    uint64_t contents_gpa;
    uint64_t contents_bytes;
    uint64_t mtime_seconds; /* of every file */
};
struct ls_archive_entry {
    union {
        uint64_t at;              /* file, symbolic link: where its bytes (or target) begin in the contents */
        struct {                  /* directory */
            uint32_t first;       /* number of its first entry */
            uint32_t directories; /* how many of its entries are directories */
        };
    };
    uint64_t bytes; /* directory: how many entries it has */
    uint32_t name;  /* offset in the names */
    uint16_t name_bytes;
    uint16_t mode; /* as stat's: directories, files and symbolic links only */
};
#define LS_BOOT_STDIN_TTY 1u
#define LS_BOOT_STDOUT_TTY 2u
#define LS_BOOT_STDERR_TTY 4u

/* ---- ports (all reachable by OUT imm8, AL ignored unless said) ---------------------- */
#define LS_PORT_EXCHANGE 0xe0 /* do what struct ls_exchange asks; returns when done */
#define LS_PORT_EXIT 0xe1     /* the program ended: ls_exchange.exit_* tell how; never returns */
#define LS_PORT_RANDOM 0xe2   /* fill ls_exchange.random */

/* Replacements that the packer writes over instructions; the monitor answers in the
 * registers. Sizes: r32 zero-extends as the CPU does. REG is the x86 register number 0-15. */
#define LS_PORT_CPUID 0xc0
#define LS_PORT_RDTSC 0xc1
#define LS_PORT_RDTSCP 0xc2
#define LS_PORT_RDRAND32 0x80 /* + REG; CF = 1, OF SF ZF AF PF = 0 */
#define LS_PORT_RDRAND64 0x90
#define LS_PORT_RDSEED32 0xa0
#define LS_PORT_RDSEED64 0xb0
#define LS_PORT_RDPID 0xd0

/* ---- the exchange page, LS_GPA_EXCHANGE --------------------------------------------- */
enum { LS_CH_CONSOLE = 0, LS_CH_STDERR = 1, LS_CH_CONTROL = 2, LS_CHANNELS = 4 };

struct ls_channel {
    uint64_t out_gpa;   /* kernel: bytes to emit, contiguous */
    uint32_t out_len;   /* kernel sets, monitor takes all at the exchange and zeroes */
    uint32_t out_flags; /* monitor, sticky: LS_OUT_HANGUP, nobody reads any more (EPIPE) */
    uint64_t in_gpa;    /* kernel: room for input, contiguous */
    uint32_t in_cap;    /* kernel: bytes of room; 0 accepts nothing and does not wake */
    uint32_t in_len;    /* monitor: bytes placed there by this exchange (0 if none) */
    uint32_t in_flags;  /* monitor, sticky: LS_IN_EOF, no more input after in_len */
    uint32_t reserved;
};
#define LS_IN_EOF 1u
#define LS_OUT_HANGUP 1u

struct ls_exchange {
    uint64_t time_ns;                /* monitor: CLOCK_REALTIME, advanced by exchanges that ask for it */
    uint64_t boot_time_ns;           /* monitor: time_ns at boot; CLOCK_MONOTONIC is the difference */
    uint64_t deadline_ns;            /* kernel: with LS_EX_WAIT, wake when time_ns reaches it; ~0: never */
    uint32_t flags;                  /* kernel: LS_EX_ */
    uint32_t signals;                /* monitor: bit n-1: signal n from outside; kernel clears what it took.
                                        A new signal ends a wait. */
    uint16_t rows, columns;          /* monitor: window size (SIGWINCH accompanies a change) */
    uint32_t exit_kind;              /* kernel, before LS_PORT_EXIT: LS_EXIT_ */
    uint32_t exit_code;              /* exit status, or signal number */
    uint32_t exit_vector;            /* faults: exception vector */
    uint64_t exit_rip, exit_address; /* faults: where, and the address touched */
    uint8_t random[64];              /* monitor: fresh bytes after LS_PORT_RANDOM */
    struct ls_channel channel[LS_CHANNELS];
    /* Read by the monitor at any time. A program that computes for 20 ms while another thread could run, or
     * a timer is due, gets a forced stop: time_ns is brought up to date, and vector 32 raised in the program,
     * or, when the kernel is at work, `reschedule` set. */
    uint32_t runnable_threads; /* kernel: threads that could run beside the current one */
    uint32_t reschedule;   /* monitor: a forced stop came; the kernel looks on its way out, and clears it */
    uint64_t timer_due_ns; /* kernel: next timer, ~0: none */
    char report[256];      /* kernel, before LS_PORT_EXIT: one sentence, NUL-terminated, or "" */
    uint64_t accepted;     /* kernel: connections that the program has accepted so far */
};
#define LS_EX_WAIT                                                                                           \
    1u                /* stand still until input on a channel with in_cap > 0, a hang-up not yet             \
                         told, a signal, or the deadline. Implies LS_EX_TIME. Without it the exchange        \
                         only polls: takes output, gives input that is there */
#define LS_EX_TIME 2u /* bring time_ns up to date */

enum { LS_EXIT_STATUS = 0, LS_EXIT_SIGNAL = 1, LS_EXIT_PANIC = 2 };

/* Control requests arrive as input on LS_CH_CONTROL, one whole request per input:
 *   uint32_t id; uint8_t op; uint8_t zero[3]; char path[] (not terminated)
 * and are answered on the same channel:
 *   uint32_t id; int32_t status (0 or -errno); uint64_t bytes; then that many bytes.
 * 'R' answers a file's contents; 'L' lists a directory as lines "TYPE SIZE NAME\n"
 * (TYPE f d l p, decimal size); 'S' answers one such line for the path itself. 'T' answers a path with
 * all that is below it, directories before what they hold, as it is at one moment: each a
 * ls_tree_entry, its name relative to the path (the first has none), then a file's contents or a
 * symbolic link's target. */
#define LS_CONTROL_READ 'R'
#define LS_CONTROL_LIST 'L'
#define LS_CONTROL_STAT 'S'
#define LS_CONTROL_TREE 'T'
struct ls_tree_entry {
    uint32_t mode; /* as stat's; 0 for a file of /proc, whose text is made when it is opened */
    uint32_t name_bytes;
    uint64_t bytes;
};

#endif
