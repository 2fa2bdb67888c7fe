/*
 * Threads, waiting and alarms. One CPU; a thread runs until its system call waits, until it has
 * had its turn, or until the monitor interrupts it in the program's code: kernel code is never
 * preempted, so between two calls of thread_sleep nothing else happens.
 *
 * How to wait: join the queue that is woken when the state changes, look at the state, sleep,
 * look again. file_sleep does it for one file. A sleeper's pointers into the program must be
 * checked again afterwards, because another thread may have unmapped them, and static buffers
 * do not keep their contents.
 */
#ifndef LOCKSTEP_GUEST_THREAD_H
#define LOCKSTEP_GUEST_THREAD_H

#include "kernel.h"

/* ---- alarm.c: what happens at a time -------------------------------------------------- */
struct alarm {
    uint64_t at, order; /* equal times ring in the order in which they were set */
    void (*ring)(struct alarm *alarm);
    struct alarm *child, *sibling, *previous; /* the heap; previous: left sibling, or parent */
    bool set;
};
void alarm_set(struct alarm *alarm, uint64_t at_ns); /* on clock_now_still()'s scale; NEVER cancels */
void alarm_cancel(struct alarm *alarm);
uint64_t alarm_due(void);        /* the earliest; NEVER when none is set */
void alarm_publish(bool as_due); /* for the monitor: the earliest, or that one is due at any rate */
void alarms_ring(void);          /* those that are due; called at every exchange */

/* ---- queue.c: waiting for a change ------------------------------------------------------- */
struct wait_queue {
    struct waiter *first, *last;
};
struct waiter {
    struct waiter *next, *previous;
    struct wait_queue *queue; /* NULL: in none */
    uint32_t events;          /* POLL bits that wake it */
    struct thread *thread;    /* woken, unless there is a function */
    void (*woken)(struct waiter *waiter);
};
void waiter_join(struct waiter *waiter, struct wait_queue *queue, uint32_t events);
void waiter_leave(struct waiter *waiter);
void queue_wake(struct wait_queue *queue, uint32_t events); /* these may hold now */
bool queue_wanted(const struct wait_queue *queue, uint32_t events);
long queue_sleep(struct wait_queue *queue, uint32_t events, uint64_t deadline, const char *what,
                 bool outside);

/* ---- threads --------------------------------------------------------------------------------- */
struct queued_signal {
    struct queued_signal *next;
    siginfo_t info;
};
struct pending {
    uint64_t set;
    struct queued_signal *first;
};
extern struct signals { /* of the process */
    struct signal_action action[SIGNALS + 1];
    struct pending pending;
    struct wait_queue queue; /* signalfd */
} signals;
enum thread_state { THREAD_RUNNING, THREAD_RUNNABLE, THREAD_WAITING, THREAD_DEAD };
struct thread {
    struct thread *next, *previous; /* all threads, the oldest first */
    struct thread *behind;          /* in the run queue */
    struct frame *frame;            /* the program's registers, on the kernel stack */
    uint64_t stack_top, stack_pointer, fs, gs;
    uint8_t *vectors; /* XSAVE image while another thread runs */
    uint64_t clear_tid, robust_list;
    struct alarm alarm; /* of thread_sleep */
    uint64_t turns_ns;  /* CPU time */
    const char *waits_for;
    uint64_t waits_at;
    struct pending pending;
    uint64_t blocked, awaited; /* signals; awaited: sigtimedwait */
    uint64_t saved_mask;       /* to restore after sigsuspend, ppoll, pselect */
    stack_t signal_stack;
    int tid;
    enum thread_state state;
    bool restore_mask;
    bool signalled; /* a signal may be there for it: look */
    bool killed;    /* must end: another thread called execve */
    bool timed_out, outside;
    char name[16];
};
extern struct thread *current, *threads;
extern unsigned thread_count;
#define THREADS_MAX 4096u
#define current_frame (current->frame) /* of the system call being served */

/* schedule.c. thread_sleep: 0 when woken, -ETIMEDOUT, or -ERESTARTSYS when a signal is there.
 * `what` names it in the report of a deadlock; outside: input from outside the machine may end it. */
long thread_sleep(uint64_t deadline, const char *what, bool outside);
void thread_wake(struct thread *thread);
void thread_enqueue(struct thread *thread);
void thread_yield(void);
void thread_interrupted(void);                  /* the monitor asked for another thread */
void thread_after_call(void);                   /* gives way when its turn is over */
uint64_t cpu_time(const struct thread *thread); /* ns; NULL: of all, those that ended too */
_Noreturn void thread_leave(void);
void threads_start(void);

/* thread.c */
struct thread *thread_find(int tid);
_Noreturn void thread_exit(int status);
void threads_exec(void); /* ends all others */
void thread_free(struct thread *thread);

/* kernel_stack.c */
uint64_t kernel_stack_alloc(void); /* its top; 0: no memory */
void kernel_stack_free(uint64_t top);
#define KERNEL_STACK_BYTES (4 * PAGE)

/* vectors.c */
uint32_t vectors_bytes(void);
void vectors_save(uint8_t *area);
void vectors_restore(uint8_t *area);

/* futex.c */
long futex_wake(uint64_t word, unsigned count, uint32_t bits);

/* entry.S */
extern uint64_t thread_stack, thread_stack_low;
void switch_stacks(uint64_t *save, uint64_t load);
__attribute__((visibility("hidden"))) void thread_begin(void);

/* interval.c: a timer that may repeat */
struct interval {
    struct alarm alarm;
    uint64_t every, count; /* expirations nobody took yet */
    void (*expired)(struct interval *interval);
};
void interval_set(struct interval *interval, uint64_t at_ns, uint64_t every_ns);
uint64_t interval_left(const struct interval *interval);
/* Both ways between itimerspec and the kernel's clock; a clock's own epoch is taken into account. */
long interval_from_program(struct interval *interval, int clock, bool absolute, uint64_t address);
long interval_to_program(const struct interval *interval, uint64_t address);

#endif
