/*
 * Everything the kernel's files share, except threads (thread.h) and files (file.h). Single CPU,
 * single program, and kernel code is never preempted: no locks anywhere.
 *
 * Conventions: a function returning long gives a result or -errno. Addresses of the program
 * are uint64_t until checked (user.c); after that they may be used as pointers, because
 * program and kernel share one address space and a missing page simply faults in.
 */
#ifndef LOCKSTEP_GUEST_KERNEL_H
#define LOCKSTEP_GUEST_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/signal.h>
#include <asm/unistd.h>
#include <linux/errno.h>
#include <linux/limits.h>
#include <linux/mman.h>
#include <linux/time.h>

#include "abi.h"

#define PAGE 4096ull
#define page_down(x) ((uint64_t)(x) & ~(PAGE - 1))
#define page_up(x) page_down((uint64_t)(x) + PAGE - 1)
#define count_of(a) (sizeof(a) / sizeof(*(a)))

static inline uint64_t min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }
static inline uint64_t max_u64(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* Guest physical to pointer and back, through the direct map. */
static inline void *direct(uint64_t gpa) { return (void *)(LS_DIRECT_MAP + gpa); }
static inline uint64_t gpa_of(const void *p) { return (uint64_t)p - LS_DIRECT_MAP; }

#define boot ((const struct ls_boot *)direct(LS_GPA_BOOT))
#define port ((volatile struct ls_exchange *)direct(LS_GPA_EXCHANGE))

/* ---- entry.S ------------------------------------------------------------------------ */
struct frame { /* the program's registers, as entry.S pushes them */
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax;
    uint64_t address, vector, error;
    uint64_t rip, cs, rflags, rsp, ss;
};
#define FRAME_SYSCALL 0x100 /* frame.vector of a system call; frame.error is its number */
#define RFLAGS_PROGRAM 0x202ull
#define RFLAGS_TF 0x100ull
#define RFLAGS_DF 0x400ull
#define RFLAGS_RF 0x10000ull

extern uint8_t kernel_text[], kernel_text_end[], kernel_end[], kernel_stack_top[];
extern uint8_t reflect_frame[];
extern uint8_t vdso_start[], vdso_end[], vdso_table[]; /* vdso.S */
extern uint8_t service_flush_page[], service_flush_all[];
extern struct frame first_frame;
void service(void *code, uint64_t argument);

/* ---- lib.c -------------------------------------------------------------------------- */
void *memcpy(void *to, const void *from, size_t n);
void *memmove(void *to, const void *from, size_t n);
void *memset(void *to, int byte, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);
int strcmp(const char *a, const char *b);
/* %s %c %d %u %x %o with width, zero padding, '-' and l; returns the length, always terminates. */
int format(char *to, size_t size, const char *pattern, ...) __attribute__((format(printf, 3, 4)));

/* ---- start.c ------------------------------------------------------------------------- */
void kernel_main(void);
_Noreturn void panic(const char *why, uint64_t value);
#define assert(c) ((c) ? (void)0 : panic("assertion failed: " #c, __LINE__))
_Noreturn void exit_with_status(int status);
_Noreturn void exit_with_signal(int signal);
_Noreturn void exit_with_report(int signal, const char *sentence);

/* ---- page.c: page frames and small objects ----------------------------------------------- */
uint64_t page_alloc(void);       /* a zeroed frame's GPA, 0 when memory is exhausted */
void *pages_alloc(size_t count); /* contiguous, zeroed, NULL when exhausted */
void page_free(uint64_t gpa);
uint64_t pages_left(void);
void *object_alloc(size_t bytes); /* zeroed; NULL when exhausted; free with the same size */
void object_free(void *object, size_t bytes);

/* A growing array of page frames, as a radix tree of pages. */
struct page_tree {
    uint64_t root;
    unsigned levels;
};
uint64_t *page_tree_slot(struct page_tree *tree, uint64_t index, bool create);
void page_tree_cut(struct page_tree *tree, uint64_t first, uint64_t end, bool keep_frames);

/* ---- table.c: the page tables of the program's half ------------------------------------------ */
#define PTE_PRESENT 1ull
#define PTE_WRITE 2ull
#define PTE_BASE 0x65ull      /* present, user, accessed, dirty: preset, so that no CPU changes them */
#define PTE_BORROWED 0x200ull /* the frame belongs to a file */
#define PTE_NX (1ull << 63)
#define PTE_FRAME 0x000ffffffffff000ull
uint64_t *table_slot(uint64_t address, bool create); /* NULL: no table (or no memory) */
uint64_t pte_flags(unsigned prot);
void table_unmap(uint64_t start, uint64_t end);
void table_protect(uint64_t start, uint64_t end, unsigned prot);
bool table_move(uint64_t from, uint64_t to, uint64_t bytes);
void flush_page(uint64_t address);
void flush_all(void);

/* ---- space.c, fault.c, mmap.c: the program's address space ------------------------------------ */
struct inode;
struct vma {
    uint64_t start, end;
    struct inode *inode;  /* NULL: anonymous memory */
    uint64_t offset;      /* of start within the inode */
    uint32_t prot, flags; /* PROT_, MAP_ */
};
struct space {
    struct vma *vmas; /* sorted, disjoint */
    unsigned count;
    uint64_t brk_start, brk;
};
extern struct space space;
#define VMA_MAX 8192u
#define EAGER_BYTES (1u << 20) /* up to here memory gets its frames at once: 30 ns a page, a fault 16 us */
#define MMAP_TOP (LS_USER_TOP - (32ull << 20)) /* the stack lies above */
unsigned vma_index(uint64_t address);          /* the first VMA that ends above the address */
struct vma *vma_find(uint64_t address);
long space_map(struct vma area); /* the range must be free */
long space_unmap(uint64_t start, uint64_t end);
long space_split(uint64_t address);
void space_merge(unsigned first, unsigned last);
uint64_t space_gap(uint64_t bytes);
void space_clear(void);
long space_populate(uint64_t start, uint64_t end);
/* Makes the page usable; 0, or the signal to raise with *code set (SEGV_MAPERR ...). */
int space_fault(uint64_t address, uint64_t error, bool from_kernel, int *code);
long sys_brk(uint64_t to);

/* ---- user.c: the program's pointers ------------------------------------------------------------- */
/* How many of the bytes from address on may be read (written); 0 when not even one. */
uint64_t user_span(uint64_t address, uint64_t bytes, bool write);
bool user_ok(uint64_t address, uint64_t bytes, bool write);
long copy_in(void *to, uint64_t from, size_t bytes);
long copy_out(uint64_t to, const void *from, size_t bytes);
long copy_in_string(char *to, uint64_t from, size_t size); /* its length */

/* ---- exec.c ------------------------------------------------------------------------------------------ */
struct strings { /* argv then envp, NUL-terminated, back to back */
    char *bytes;
    size_t length, argc, envc;
};
long exec_load(struct frame *frame, const char *path, struct strings *strings);
extern char exe_path[PATH_MAX];
extern char program_name[16];
/* Where argv's strings, envp's and their end lie on the program's first stack. */
extern struct program_strings { uint64_t arguments, environment, end; } program_strings;

/* ---- exchange.c, control.c: meeting the monitor ----------------------------------------------------- */
#define NEVER (~0ull)
/* Sends what the channels hold, takes what there is. want_input: the caller wants the console's,
 * as does whoever sleeps in its queue. Alarms that are due ring; no other thread runs meanwhile. */
void exchange(uint32_t flags, uint64_t deadline_ns, bool want_input);
bool exchange_is_stale(void); /* the last one was some system calls ago */
void exchange_send(unsigned channel, const void *bytes, uint32_t length);
bool channel_hung_up(unsigned channel);
void exchange_if_overdue(void); /* called at every system call */
void control_answer(const uint8_t *request, uint32_t length);

/* ---- net/virtio.c: the network card (net/net.h: the stack) ------------------------------------------- */
void network_start(void);
const char *lease_wait(void); /* lease.c */
void network_exchanged(void);
bool network_present(void); /* there is a card */
bool network_stalled(void); /* much waits to be sent: an exchange is due */

/* ---- clock.c, random.c ------------------------------------------------------------------------------- */
#define NS_PER_SECOND 1000000000ull
uint64_t clock_now(void); /* CLOCK_REALTIME; a step later at every reading */
/* Asks the monitor. Before a signal is ordered for so long after now: what was computed since the last
 * exchange would count as part of that time, and the signal come before the program waits for it. */
uint64_t clock_now_exact(void);
uint64_t clock_now_still(void); /* without the step, for the kernel's own stamps */
uint64_t clock_since_boot(void);
extern bool cpu_time_is_read;
void clock_exchanged(bool with_time);
bool clock_is_known(int clock);
bool clock_is_absolute(int clock);
bool ns_from_timespec(uint64_t address, uint64_t *ns); /* false: EFAULT or EINVAL */
void random_bytes(void *to, size_t bytes);

/* ---- signal.c, sigframe.c --------------------------------------------------------------------------------
 */
#define ERESTARTSYS 512    /* restart if SA_RESTART or no handler ran, else EINTR */
#define ERESTARTNOHAND 514 /* restart only if no handler ran */
#define SIGNALS 64
struct signal_action {
    uint64_t handler, flags, restorer, mask;
};
#define signal_bit(n) (1ull << ((n)-1))
struct thread;
void signal_raise(int signal, int code);                        /* for the process */
void signal_raise_here(int signal, int code);                   /* for the current thread */
bool signal_send(struct thread *thread, const siginfo_t *info); /* NULL: for the process; false: no room */
void signal_force(struct frame *frame, int signal, int code, uint64_t address);
bool signal_ready(void);                  /* one is waiting to be delivered: blocking calls end */
bool signal_deliver(struct frame *frame); /* true when the frame changed */
void signal_exec(void);
void signal_thread_ended(void);
bool signal_take(uint64_t set, siginfo_t *info); /* the lowest of those pending */
uint64_t signal_pending(void);
void signal_block(uint64_t mask);
void signal_set_temporary_mask(uint64_t mask);
void sigframe_push(struct frame *frame, int signal, const siginfo_t *info);
extern struct frame fatal_frame; /* of the fault that kills the program, if one did */

/* ---- syscalls.c
 * -------------------------------------------------------------------------------------------- */
extern uint32_t unknown_syscalls[512];
extern uint64_t syscall_count;
long not_implemented(void); /* ENOSYS, counted */
long not_implemented_as(uint64_t number);
void timers_exec(void);

#endif
