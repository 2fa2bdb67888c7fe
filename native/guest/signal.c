/* Signals: what is pending, blocked and handled, and when one is delivered. */
#include "file.h"

struct signals signals;

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

void signal_raise_info(int signal, const siginfo_t *info) {
    if (ignored(signal) && !(signals.blocked & signal_bit(signal))) return;
    if (signals.pending & signal_bit(signal)) return;
    signals.pending |= signal_bit(signal);
    signals.info[signal] = *info;
}

void signal_raise(int signal, int code) {
    siginfo_t info = {.si_signo = signal, .si_code = code};
    signal_raise_info(signal, &info);
}

/* For faults: cannot be ignored, and kills when blocked, or the instruction would fault for ever. */
void signal_force(struct frame *frame, int signal, int code, uint64_t address) {
    struct signal_action *action = &signals.action[signal];
    if (action->handler == (uint64_t)SIG_IGN || (signals.blocked & signal_bit(signal)))
        action->handler = (uint64_t)SIG_DFL;
    if (action->handler == (uint64_t)SIG_DFL) fatal_frame = *frame;
    signals.blocked &= ~signal_bit(signal);
    signals.pending |= signal_bit(signal);
    siginfo_t info = {.si_signo = signal, .si_code = code};
    info.si_addr = (void *)address;
    signals.info[signal] = info;
}

static int next_signal(void) {
    uint64_t deliverable = signals.pending & ~signals.blocked;
    /* Faults first: their siginfo belongs to the instruction just interrupted. */
    uint64_t faults = deliverable & (signal_bit(SIGSEGV) | signal_bit(SIGBUS) | signal_bit(SIGILL) |
                                     signal_bit(SIGTRAP) | signal_bit(SIGFPE));
    uint64_t choose = faults ? faults : deliverable;
    return choose ? __builtin_ctzll(choose) + 1 : 0;
}

bool signal_ready(void) {
    uint64_t deliverable = signals.pending & ~signals.blocked;
    for (int n = 1; deliverable >> (n - 1); n++) {
        if (!(deliverable & signal_bit(n))) continue;
        if (!ignored(n)) return true;
        signals.pending &= ~signal_bit(n);
        deliverable &= ~signal_bit(n);
        if (!deliverable) break;
    }
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
    for (int n; (n = next_signal());) {
        signals.pending &= ~signal_bit(n);
        struct signal_action action = signals.action[n];
        if (ignored(n)) continue;
        if (action.handler == (uint64_t)SIG_DFL) exit_with_signal(n);
        settle_call(frame, true, action.flags);
        frame->vector = 0; /* settled */
        sigframe_push(frame, n, &signals.info[n]);
        signals.blocked |= action.mask;
        if (!(action.flags & SA_NODEFER)) signals.blocked |= signal_bit(n);
        signals.blocked &= ~CANNOT_BLOCK;
        if (action.flags & SA_RESETHAND) signals.action[n].handler = (uint64_t)SIG_DFL;
        signals.restore_mask = false;
        changed = true;
    }
    if (!changed && frame->vector == FRAME_SYSCALL &&
        ((long)frame->rax == -ERESTARTSYS || (long)frame->rax == -ERESTARTNOHAND)) {
        settle_call(frame, false, 0);
        changed = true;
    }
    if (signals.restore_mask) {
        signals.blocked = signals.saved_mask;
        signals.restore_mask = false;
    }
    return changed;
}

void signal_exec(void) {
    for (int n = 1; n <= SIGNALS; n++)
        if (signals.action[n].handler != (uint64_t)SIG_IGN) signals.action[n] = (struct signal_action){0};
    signals.stack = (stack_t){.ss_flags = SS_DISABLE};
}

/* For the duration of one call; the handler's frame keeps the mask to return to. */
void signal_set_temporary_mask(uint64_t mask) {
    signals.saved_mask = signals.blocked;
    signals.restore_mask = true;
    signals.blocked = mask & ~CANNOT_BLOCK;
}

/* ---- system calls ------------------------------------------------------------------------------ */
long sys_rt_sigaction(int signal, uint64_t new, uint64_t old, uint64_t size) {
    if (signal < 1 || signal > SIGNALS || size != 8) return -EINVAL;
    struct signal_action was = signals.action[signal], now;
    if (new) {
        if (signal == SIGKILL || signal == SIGSTOP) return -EINVAL;
        if (copy_in(&now, new, sizeof now)) return -EFAULT;
        now.mask &= ~CANNOT_BLOCK;
        signals.action[signal] = now;
        if (ignored(signal)) signals.pending &= ~signal_bit(signal);
    }
    return old ? copy_out(old, &was, sizeof was) : 0;
}

long sys_rt_sigprocmask(int how, uint64_t new, uint64_t old, uint64_t size) {
    uint64_t was = signals.blocked, set;
    if (size != 8) return -EINVAL;
    if (new) {
        if (copy_in(&set, new, sizeof set)) return -EFAULT;
        if (how == SIG_BLOCK)
            signals.blocked |= set;
        else if (how == SIG_UNBLOCK)
            signals.blocked &= ~set;
        else if (how == SIG_SETMASK)
            signals.blocked = set;
        else
            return -EINVAL;
        signals.blocked &= ~CANNOT_BLOCK;
    }
    return old ? copy_out(old, &was, sizeof was) : 0;
}

long sys_rt_sigpending(uint64_t to) {
    uint64_t set = signals.pending & signals.blocked;
    return copy_out(to, &set, sizeof set);
}

static long wait_for_signal(void) {
    while (!signal_ready()) exchange(LS_EX_WAIT, NEVER, false);
    return -ERESTARTNOHAND;
}

long sys_rt_sigsuspend(uint64_t set, uint64_t size) {
    uint64_t mask;
    if (size != 8) return -EINVAL;
    if (copy_in(&mask, set, sizeof mask)) return -EFAULT;
    signal_set_temporary_mask(mask);
    return wait_for_signal();
}

long sys_pause(void) { return wait_for_signal(); }

long sys_rt_sigtimedwait(uint64_t set, uint64_t info, uint64_t timeout, uint64_t size) {
    uint64_t wanted, ns = 0;
    if (size != 8) return -EINVAL;
    if (copy_in(&wanted, set, sizeof wanted)) return -EFAULT;
    if (timeout && !ns_from_timespec(timeout, &ns)) return -EINVAL;
    uint64_t deadline = timeout ? clock_now() + ns : NEVER;
    for (;;) {
        uint64_t found = signals.pending & wanted;
        if (found) {
            int n = __builtin_ctzll(found) + 1;
            signals.pending &= ~signal_bit(n);
            return info && copy_out(info, &signals.info[n], sizeof(siginfo_t)) ? -EFAULT : n;
        }
        if (signal_ready()) return -EINTR;
        if (clock_now_still() >= deadline || (timeout && !ns)) return -EAGAIN;
        exchange(LS_EX_WAIT, deadline, false);
    }
}

long sys_sigaltstack(uint64_t new, uint64_t old) {
    stack_t was = signals.stack, now;
    uint64_t sp = current_frame->rsp;
    bool on_it = sp - (uint64_t)was.ss_sp < was.ss_size;
    if (!was.ss_size)
        was.ss_flags = SS_DISABLE;
    else if (on_it)
        was.ss_flags |= SS_ONSTACK;
    if (new) {
        if (copy_in(&now, new, sizeof now)) return -EFAULT;
        if (on_it) return -EPERM;
        if (now.ss_flags & SS_DISABLE)
            now = (stack_t){.ss_flags = SS_DISABLE};
        else if (now.ss_size < MINSIGSTKSZ)
            return -ENOMEM;
        signals.stack = now;
    }
    return old ? copy_out(old, &was, sizeof was) : 0;
}

/* Only ourselves can be meant: process 1, thread 1, group 1, or everybody. */
long sys_kill(int pid, int signal) {
    if (signal < 0 || signal > SIGNALS) return -EINVAL;
    if (pid > 1 || pid < -1) return -ESRCH;
    siginfo_t info = {.si_signo = signal, .si_code = SI_USER};
    info.si_pid = 1;
    if (signal) signal_raise_info(signal, &info);
    return 0;
}

long sys_tgkill(int group, int thread, int signal) {
    if (signal < 0 || signal > SIGNALS || group <= 0 || thread <= 0) return -EINVAL;
    if (group != 1 || thread != 1) return -ESRCH;
    siginfo_t info = {.si_signo = signal, .si_code = SI_TKILL};
    info.si_pid = 1;
    if (signal) signal_raise_info(signal, &info);
    return 0;
}

long sys_tkill(int thread, int signal) { return sys_tgkill(1, thread, signal); }
