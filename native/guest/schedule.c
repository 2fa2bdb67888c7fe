/*
 * Which thread runs. Round robin over those that can; when none can, the machine waits at the
 * monitor's door for the earliest alarm or input. The choice depends on nothing but the order of
 * system calls and on what exchanges bring, so it is the same in every run of a log.
 */
#include "file.h"

#define CALLS_PER_TURN 256u
#define TURN_NS 10000000u /* of virtual time, which moves at exchanges and clock readings */
#define HEADROOM 1024u    /* below this a fault in the kernel goes on upon another stack */

static struct thread *first, *last; /* the run queue, without the running thread */
static struct thread *corpse;       /* ended, but its stack was in use until now */
static uint32_t calls;
static uint64_t turn_start, turns_ns; /* turns_ns: of all turns before this one */
static int listeners;                 /* threads that input may wake */

void thread_enqueue(struct thread *thread) {
    thread->state = THREAD_RUNNABLE;
    thread->behind = NULL;
    if (first)
        last->behind = thread;
    else
        first = thread;
    last = thread;
    port->runnable_threads++;
}

static struct thread *dequeue(void) {
    struct thread *thread = first;
    first = thread->behind;
    port->runnable_threads--;
    thread->state = THREAD_RUNNING;
    return thread;
}

void thread_wake(struct thread *thread) {
    if (thread->state == THREAD_WAITING) thread_enqueue(thread);
}

/* ---- switching ------------------------------------------------------------------------ */
static uint64_t read_fs(void) {
    uint64_t base;
    __asm__ volatile("rdfsbase %0" : "=r"(base));
    return base;
}

static uint64_t read_gs(void) {
    uint64_t base;
    __asm__ volatile("rdgsbase %0" : "=r"(base));
    return base;
}

/* The first thing a thread does when it runs again; entry.S calls it for a new thread. */
void thread_arrived(void);
void thread_arrived(void) {
    if (corpse) thread_free(corpse);
    corpse = NULL;
    __asm__ volatile("wrfsbase %0; wrgsbase %1" ::"r"(current->fs), "r"(current->gs));
    vectors_restore(current->vectors);
    if (current->killed) thread_exit(0);
}

static void switch_to(struct thread *next) {
    struct thread *from = current;
    if (from->state == THREAD_DEAD) {
        corpse = from;
    } else {
        from->fs = read_fs();
        from->gs = read_gs();
        vectors_save(from->vectors);
    }
    current = next;
    thread_stack = next->stack_top - 8;
    thread_stack_low = next->stack_top - KERNEL_STACK_BYTES + HEADROOM;
    switch_stacks(&from->stack_pointer, next->stack_pointer);
    if (current->killed) { /* the call's own way out leads to its end */
        if (corpse) thread_free(corpse);
        corpse = NULL;
        return;
    }
    thread_arrived();
}

/* ---- deadlocks -------------------------------------------------------------------------- */
static bool signal_could_help(void) {
    for (int n = 1; n < 32; n++) {
        if (signals.action[n].handler <= (uint64_t)SIG_IGN) continue;
        for (struct thread *t = threads; t; t = t->next)
            if (!(t->blocked & signal_bit(n))) return true;
    }
    return false;
}

static void check_deadlock(void) {
    if (alarm_due() != NEVER || port->signals || signal_could_help()) return;
    for (struct thread *t = threads; t; t = t->next)
        if (t->outside) return;
    static char text[200];
    int n = format(text, sizeof text, "deadlock: nothing can wake a thread any more:");
    for (struct thread *t = threads; t && (size_t)n < sizeof text - 60; t = t->next)
        n += format(text + n, sizeof text - (size_t)n, "%s %d (%s) waits for %s at 0x%lx",
                    t == threads ? "" : ";", t->tid, t->tid == 1 || !t->name[0] ? program_name : t->name,
                    t->waits_for, t->waits_at);
    exit_with_report(SIGKILL, text);
}

/* ---- choosing ----------------------------------------------------------------------------- */
/* The first turn begins with the machine. */
static uint64_t turn_ns(void) { return clock_now_still() - max_u64(turn_start, port->boot_time_ns); }

static void end_turn(void) {
    if (cpu_time_is_read && !first) exchange(LS_EX_TIME, NEVER, false); /* what was computed is no waiting */
    current->turns_ns += turn_ns();
    turns_ns += turn_ns();
}

uint64_t cpu_time(const struct thread *thread) {
    uint64_t before = thread ? thread->turns_ns : turns_ns;
    return before + (!thread || thread == current ? turn_ns() : 0);
}

/* The current thread is in the run queue, waits, or has ended. */
static void schedule(void) {
    end_turn();
    while (!first) {
        check_deadlock();
        exchange(LS_EX_WAIT, NEVER, false);
    }
    struct thread *next = dequeue();
    calls = 0;
    turn_start = clock_now_still();
    if (next != current) switch_to(next);
}

void thread_leave(void) {
    current->state = THREAD_DEAD;
    schedule();
    panic("an ended thread ran", (uint64_t)current->tid);
}

void thread_yield(void) {
    if (!first) return;
    thread_enqueue(current);
    schedule();
}

void thread_interrupted(void) {
    port->reschedule = 0;
    exchange(LS_EX_TIME, NEVER, false); /* input may have come for a thread that waits */
    thread_yield();
}

void thread_after_call(void) {
    if (port->reschedule) {
        thread_interrupted();
    } else if (first && (++calls >= CALLS_PER_TURN || clock_now_still() - turn_start >= TURN_NS)) {
        thread_yield();
    }
}

/* While one of them sleeps, a thread that computes is stopped now and then as if a timer were due. */
static void count_listeners(int more) {
    listeners += more;
    alarm_publish(listeners > 0);
}

static void time_is_up(struct alarm *alarm) {
    struct thread *thread = (struct thread *)((uint8_t *)alarm - offsetof(struct thread, alarm));
    thread->timed_out = true;
    thread_wake(thread);
}

long thread_sleep(uint64_t deadline, const char *what, bool outside) {
    if (signal_ready()) return -ERESTARTSYS;
    if (clock_now_still() >= deadline) return -ETIMEDOUT;
    current->timed_out = false;
    current->waits_for = what;
    current->waits_at = current->frame->rdi;
    current->outside = outside;
    current->alarm.ring = time_is_up;
    alarm_set(&current->alarm, deadline);
    current->state = THREAD_WAITING;
    count_listeners(outside ? 1 : 0);
    schedule();
    count_listeners(outside ? -1 : 0);
    alarm_cancel(&current->alarm);
    if (signal_ready()) return -ERESTARTSYS;
    return current->timed_out ? -ETIMEDOUT : 0;
}

long sys_sched_yield(void) {
    static uint32_t lonely;
    if (first) {
        thread_yield();
    } else if (++lonely >= 64) { /* whoever yields to nobody waits for time or input */
        lonely = 0;
        exchange(LS_EX_TIME, NEVER, false);
    }
    return 0;
}
