/* Signals: what is pending, blocked and handled, and when one is delivered. */
#include "file.h"

struct signals signals;
static unsigned queued;
#define QUEUED_MAX 4096u

#define CANNOT_BLOCK (signal_bit(SIGKILL) | signal_bit(SIGSTOP))
#define IGNORED_BY_DEFAULT                                                                                   \
    (signal_bit(SIGCHLD) | signal_bit(SIGCONT) | signal_bit(SIGURG) | signal_bit(SIGWINCH) |                 \
     signal_bit(SIGSTOP) | signal_bit(SIGTSTP) | signal_bit(SIGTTIN) | signal_bit(SIGTTOU))
/* Stopping is ignored as well: nobody is there who could continue the only process. */

static bool ignored(int signal) {
    uint64_t handler = signals.action[signal].handler;
    return handler == (uint64_t)SIG_IGN ||
           (handler == (uint64_t)SIG_DFL && (IGNORED_BY_DEFAULT & signal_bit(signal)));
}

/* ---- pending: a set of numbers, and what is known of each; real-time signals may be there often ---- */
static bool add(struct pending *pending, const siginfo_t *info) {
    struct queued_signal **end = &pending->first, *entry;
    uint64_t bit = signal_bit(info->si_signo);
    if ((pending->set & bit) && info->si_signo < SIGRTMIN) return true;
    for (; *end; end = &(*end)->next) {
        siginfo_t *there = &(*end)->info;
        if (info->si_code != SI_TIMER || there->si_code != SI_TIMER || there->si_tid != info->si_tid)
            continue;
        there->si_overrun += info->si_overrun + 1; /* one of each timer at a time */
        return true;
    }
    if (queued == QUEUED_MAX || !(entry = object_alloc(sizeof *entry))) return false;
    queued++;
    entry->info = *info;
    *end = entry;
    pending->set |= bit;
    return true;
}

/* Takes the first that stands for this signal. */
static void take(struct pending *pending, int signal, siginfo_t *info) {
    bool taken = false, more = false;
    for (struct queued_signal **at = &pending->first, *entry; (entry = *at) && !more;) {
        if (entry->info.si_signo != signal || taken) {
            more = taken && entry->info.si_signo == signal;
            at = &entry->next;
            continue;
        }
        taken = true;
        *at = entry->next;
        if (info) *info = entry->info;
        object_free(entry, sizeof *entry);
        queued--;
    }
    if (!more) pending->set &= ~signal_bit(signal);
}

static void discard(struct pending *pending, int signal) {
    while (pending->set & signal_bit(signal)) take(pending, signal, NULL);
}

/* ---- whom it concerns ------------------------------------------------------------------------------- */
static bool wants(const struct thread *thread, uint64_t bit) {
    return !thread->killed && (!(thread->blocked & bit) || (thread->awaited & bit));
}

static void notify(struct thread *thread) {
    thread->signalled = true;
    thread_wake(thread);
}

/* For the process: the first thread if it wants it, as on Linux, else the oldest that does. */
static void notify_any(uint64_t bit) {
    for (struct thread *thread = threads; thread; thread = thread->next) {
        if (!wants(thread, bit)) continue;
        notify(thread);
        return;
    }
}

bool signal_send(struct thread *thread, const siginfo_t *info) {
    uint64_t bit = signal_bit(info->si_signo);
    const struct thread *judge = thread ? thread : threads;
    if (ignored(info->si_signo) && !(judge->blocked & bit)) return true;
    if (!add(thread ? &thread->pending : &signals.pending, info)) return false;
    if (!thread)
        notify_any(bit);
    else if (wants(thread, bit))
        notify(thread);
    queue_wake(&signals.queue, POLLIN);
    return true;
}

void signal_raise(int signal, int code) {
    siginfo_t info = {.si_signo = signal, .si_code = code};
    signal_send(NULL, &info);
}

void signal_raise_here(int signal, int code) {
    siginfo_t info = {.si_signo = signal, .si_code = code};
    signal_send(current, &info);
}

/* The current thread's mask. What it no longer takes, another thread may. */
void signal_block(uint64_t mask) {
    mask &= ~CANNOT_BLOCK;
    uint64_t newly = mask & ~current->blocked & signals.pending.set;
    current->blocked = mask;
    if ((current->pending.set | signals.pending.set) & ~mask) current->signalled = true;
    for (; newly; newly &= newly - 1) notify_any(newly & -newly);
}

void signal_thread_ended(void) {
    for (int n = 1; n <= SIGNALS; n++) discard(&current->pending, n);
    for (uint64_t left = signals.pending.set; left; left &= left - 1) notify_any(left & -left);
}

uint64_t signal_pending(void) { return current->pending.set | signals.pending.set; }

bool signal_take(uint64_t set, siginfo_t *info) {
    uint64_t found = signal_pending() & set;
    if (!found) return false;
    int n = __builtin_ctzll(found) + 1;
    take(current->pending.set & signal_bit(n) ? &current->pending : &signals.pending, n, info);
    return true;
}

/* For faults: cannot be ignored, and kills when blocked, or the instruction would fault for ever. */
void signal_force(struct frame *frame, int signal, int code, uint64_t address) {
    struct signal_action *action = &signals.action[signal];
    if (action->handler == (uint64_t)SIG_IGN || (current->blocked & signal_bit(signal)))
        action->handler = (uint64_t)SIG_DFL;
    if (action->handler == (uint64_t)SIG_DFL) fatal_frame = *frame;
    current->blocked &= ~signal_bit(signal);
    siginfo_t info = {.si_signo = signal, .si_code = code};
    info.si_addr = (void *)address;
    if (!add(&current->pending, &info)) exit_with_signal(signal);
    current->signalled = true;
}

static bool next_signal(siginfo_t *info) {
    uint64_t deliverable = current->signalled ? signal_pending() & ~current->blocked : 0;
    /* Faults first: their siginfo belongs to the instruction just interrupted. */
    uint64_t faults = current->pending.set & deliverable &
                      (signal_bit(SIGSEGV) | signal_bit(SIGBUS) | signal_bit(SIGILL) | signal_bit(SIGTRAP) |
                       signal_bit(SIGFPE));
    if (signal_take(faults ? faults : deliverable, info)) return true;
    current->signalled = false;
    return false;
}

bool signal_ready(void) {
    if (current->killed) return true;
    if (!current->signalled) return false;
    for (uint64_t left = signal_pending() & ~current->blocked; left; left &= left - 1) {
        int n = __builtin_ctzll(left) + 1;
        if (!ignored(n)) return true;
        discard(&current->pending, n);
        discard(&signals.pending, n);
    }
    current->signalled = false;
    return false;
}

/* What an interrupted system call answers: the call again, or EINTR. */
static void settle_call(struct frame *frame, bool handled, uint64_t flags) {
    if (frame->vector != FRAME_SYSCALL) return;
    long result = (long)frame->rax;
    if (result != -ERESTARTSYS && result != -ERESTARTNOHAND) return;
    if (handled && (result == -ERESTARTNOHAND || !(flags & SA_RESTART))) {
        frame->rax = (uint64_t)-EINTR;
    } else {
        frame->rax = frame->error;
        frame->rip -= 2; /* back to SYSCALL */
    }
}

bool signal_deliver(struct frame *frame) {
    bool changed = false;
    siginfo_t info;
    if (current->killed) thread_exit(0);
    while (next_signal(&info)) {
        int n = info.si_signo;
        struct signal_action action = signals.action[n];
        if (ignored(n)) continue;
        if (action.handler == (uint64_t)SIG_DFL) exit_with_signal(n);
        settle_call(frame, true, action.flags);
        frame->vector = 0; /* settled */
        sigframe_push(frame, n, &info);
        signal_block(current->blocked | action.mask | (action.flags & SA_NODEFER ? 0 : signal_bit(n)));
        if (action.flags & SA_RESETHAND) signals.action[n].handler = (uint64_t)SIG_DFL;
        current->restore_mask = false;
        changed = true;
    }
    if (!changed && frame->vector == FRAME_SYSCALL &&
        ((long)frame->rax == -ERESTARTSYS || (long)frame->rax == -ERESTARTNOHAND)) {
        settle_call(frame, false, 0);
        changed = true;
    }
    if (current->restore_mask) {
        signal_block(current->saved_mask);
        current->restore_mask = false;
    }
    return changed;
}

void signal_exec(void) {
    for (int n = 1; n <= SIGNALS; n++)
        if (signals.action[n].handler != (uint64_t)SIG_IGN) signals.action[n] = (struct signal_action){0};
    current->signal_stack = (stack_t){.ss_flags = SS_DISABLE};
    timers_exec();
    threads_exec();
}

/* For the duration of one call; the handler's frame keeps the mask to return to. */
void signal_set_temporary_mask(uint64_t mask) {
    current->saved_mask = current->blocked;
    current->restore_mask = true;
    signal_block(mask);
}

long sys_rt_sigaction(int signal, uint64_t new, uint64_t old, uint64_t size) {
    if (signal < 1 || signal > SIGNALS || size != 8) return -EINVAL;
    struct signal_action was = signals.action[signal], now;
    if (new) {
        if (signal == SIGKILL || signal == SIGSTOP) return -EINVAL;
        if (copy_in(&now, new, sizeof now)) return -EFAULT;
        now.mask &= ~CANNOT_BLOCK;
        signals.action[signal] = now;
        if (ignored(signal)) {
            discard(&signals.pending, signal);
            for (struct thread *thread = threads; thread; thread = thread->next)
                discard(&thread->pending, signal);
        }
    }
    return old ? copy_out(old, &was, sizeof was) : 0;
}
