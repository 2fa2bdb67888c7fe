/* The system calls about signals: masks, waiting, sending. Which signal goes where: signal.c. */
#include "file.h"

long sys_rt_sigprocmask(int how, uint64_t new, uint64_t old, uint64_t size) {
    uint64_t was = current->blocked, set;
    if (size != 8) return -EINVAL;
    if (new) {
        if (copy_in(&set, new, sizeof set)) return -EFAULT;
        switch (how) {
        case SIG_BLOCK: signal_block(was | set); break;
        case SIG_UNBLOCK: signal_block(was & ~set); break;
        case SIG_SETMASK: signal_block(set); break;
        default: return -EINVAL;
        }
    }
    return old ? copy_out(old, &was, sizeof was) : 0;
}

long sys_rt_sigpending(uint64_t to) {
    uint64_t set = signal_pending() & current->blocked;
    return copy_out(to, &set, sizeof set);
}

long sys_pause(void) {
    while (!signal_ready()) thread_sleep(NEVER, "a signal", true);
    return -ERESTARTNOHAND;
}

long sys_rt_sigsuspend(uint64_t set, uint64_t size) {
    uint64_t mask;
    if (size != 8) return -EINVAL;
    if (copy_in(&mask, set, sizeof mask)) return -EFAULT;
    signal_set_temporary_mask(mask);
    return sys_pause();
}

long sys_rt_sigtimedwait(uint64_t set, uint64_t info_at, uint64_t timeout, uint64_t size) {
    uint64_t wanted, ns = 0;
    siginfo_t info;
    if (size != 8) return -EINVAL;
    if (copy_in(&wanted, set, sizeof wanted)) return -EFAULT;
    if (timeout && !ns_from_timespec(timeout, &ns)) return -EINVAL;
    uint64_t deadline = !timeout ? NEVER : ns ? clock_now() + ns : 0;
    current->awaited = wanted;
    for (long error = 0;;) {
        if (signal_take(wanted, &info)) {
            current->awaited = 0;
            if (info_at && copy_out(info_at, &info, sizeof info)) return -EFAULT;
            return info.si_signo;
        }
        if (error) {
            current->awaited = 0;
            return error == -ETIMEDOUT ? -EAGAIN : -EINTR;
        }
        error = thread_sleep(deadline, "a signal", true);
    }
}

long sys_sigaltstack(uint64_t new, uint64_t old) {
    stack_t was = current->signal_stack, now;
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
        current->signal_stack = now;
    }
    return old ? copy_out(old, &was, sizeof was) : 0;
}

/* ---- sending: only our own process can be meant --------------------------------------------------- */
static long send(struct thread *thread, int signal, siginfo_t *info) {
    if (!signal) return 0;
    info->si_signo = signal;
    return signal_send(thread, info) || signal < SIGRTMIN ? 0 : -EAGAIN;
}

long sys_kill(int pid, int signal) {
    siginfo_t info = {.si_code = SI_USER};
    info.si_pid = 1;
    if (signal < 0 || signal > SIGNALS) return -EINVAL;
    return pid > 1 || pid < -1 ? -ESRCH : send(NULL, signal, &info);
}

long sys_tgkill(int group, int tid, int signal) {
    struct thread *thread = thread_find(tid);
    siginfo_t info = {.si_code = SI_TKILL};
    info.si_pid = 1;
    if (signal < 0 || signal > SIGNALS || group <= 0 || tid <= 0) return -EINVAL;
    return group != 1 || !thread ? -ESRCH : send(thread, signal, &info);
}

long sys_tkill(int tid, int signal) { return sys_tgkill(1, tid, signal); }

long sys_rt_tgsigqueueinfo(int group, int tid, int signal, uint64_t from) {
    struct thread *thread = thread_find(tid);
    siginfo_t info;
    if (copy_in(&info, from, sizeof info)) return -EFAULT;
    if (signal < 0 || signal > SIGNALS || group <= 0 || tid <= 0) return -EINVAL;
    return group != 1 || !thread ? -ESRCH : send(thread, signal, &info);
}

long sys_rt_sigqueueinfo(int pid, int signal, uint64_t from) {
    siginfo_t info;
    if (copy_in(&info, from, sizeof info)) return -EFAULT;
    if (signal < 0 || signal > SIGNALS) return -EINVAL;
    return pid != 1 ? -ESRCH : send(NULL, signal, &info);
}

/* A process's directory in /proc serves as its descriptor; ours is the only one. */
long sys_pidfd_send_signal(int fd, int signal, uint64_t info_at, unsigned flags) {
    struct file *file = file_get(fd);
    if (flags) return -EINVAL;
    if (!file || file->inode->proc != PROC_PROCESS) return -EBADF;
    return info_at ? sys_rt_sigqueueinfo(1, signal, info_at) : sys_kill(1, signal);
}
