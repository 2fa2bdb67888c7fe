/* The table of system calls, and what happens around each one. */
#include "file.h"

typedef long (*call)(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);

/* Calls whose function bears their name. */
/* clang-format off */
#define NAMED(X)                                                                                       \
    X(read) X(write) X(open) X(close) X(stat) X(fstat) X(lstat) X(poll) X(lseek) X(mmap) X(mprotect)     \
    X(munmap) X(brk) X(rt_sigaction) X(rt_sigprocmask) X(rt_sigreturn) X(ioctl) X(pread64) X(pwrite64)   \
    X(readv) X(writev) X(access) X(pipe) X(select) X(mremap) X(msync) X(mincore) X(madvise) X(dup)       \
    X(dup2) X(pause) X(nanosleep) X(getitimer) X(alarm) X(setitimer) X(sendfile) X(execve) X(exit)       \
    X(wait4) X(kill) X(uname) X(fcntl) X(flock) X(fsync) X(truncate) X(ftruncate) X(getcwd) X(chdir)     \
    X(fchdir) X(rename) X(mkdir) X(rmdir) X(creat) X(link) X(unlink) X(symlink) X(readlink) X(chmod)     \
    X(fchmod) X(chown) X(fchown) X(lchown) X(umask) X(gettimeofday) X(getrlimit) X(getrusage) X(sysinfo) \
    X(times) X(setpgid) X(getppid) X(getgroups) X(getpgid) X(rt_sigpending) X(rt_sigtimedwait)           \
    X(rt_sigsuspend) X(sigaltstack) X(utime) X(mknod) X(statfs) X(fstatfs) X(getpriority)                \
    X(sched_getparam) X(mlock) X(prctl) X(arch_prctl) X(setrlimit) X(sync) X(tkill) X(time) X(futex)     \
    X(sched_getaffinity) X(getdents64) X(fadvise64) X(clock_gettime) X(clock_getres) X(clock_nanosleep)  \
    X(tgkill) X(utimes) X(openat) X(mkdirat) X(mknodat) X(fchownat) X(newfstatat) X(unlinkat)            \
    X(renameat) X(linkat) X(symlinkat) X(readlinkat) X(fchmodat) X(faccessat) X(pselect6) X(ppoll)       \
    X(utimensat) X(fallocate) X(dup3) X(pipe2) X(preadv) X(pwritev) X(prlimit64) X(getcpu) X(renameat2)  \
    X(socket) X(socketpair) X(bind) X(listen) X(accept) X(accept4) X(connect) X(shutdown)                \
    X(getsockname) X(getpeername) X(setsockopt) X(getsockopt) X(sendto) X(recvfrom) X(sendmsg) X(recvmsg)  \
    X(sendmmsg) X(recvmmsg)    \
    X(getrandom) X(copy_file_range) X(statx) X(close_range) X(faccessat2) X(clone) X(clone3) X(fork)        \
    X(vfork) X(gettid) X(exit_group) X(sched_yield) X(set_tid_address) X(set_robust_list)                \
    X(get_robust_list) X(membarrier) X(timer_create) X(timer_settime) X(timer_gettime)                   \
    X(timer_getoverrun) X(timer_delete) X(epoll_create) X(epoll_create1) X(epoll_ctl) X(epoll_wait)      \
    X(epoll_pwait) X(epoll_pwait2) X(eventfd) X(eventfd2) X(timerfd_create) X(timerfd_settime)           \
    X(timerfd_gettime) X(signalfd) X(signalfd4) X(rt_sigqueueinfo) X(rt_tgsigqueueinfo)           \
    X(pidfd_send_signal) X(sethostname) X(capget) X(capset) X(pkey_alloc)

/* Calls answered by another call's function. */
#define SHARED(X)                                                                                      \
    X(fdatasync, fsync) X(getpid, one)           \
    X(getpgrp, one) X(getsid, one) X(setsid, eperm) X(getuid, zero) X(geteuid, zero) X(getgid, zero)     \
    X(getegid, zero) X(setuid, zero) X(setgid, zero) X(setreuid, zero) X(setregid, zero)                 \
    X(setresuid, zero) X(setresgid, zero) X(setfsuid, zero) X(setfsgid, zero) X(getresuid, getres)       \
    X(getresgid, getres) X(setgroups, zero)             \
    X(personality, zero) X(setpriority, zero) X(munlock, mlock) X(mlockall, zero) X(munlockall, zero)    \
    X(sched_setaffinity, zero) X(sched_getscheduler, zero) X(sched_setscheduler, zero) X(sched_setparam, zero) X(sched_get_priority_max, zero) \
    X(sched_get_priority_min, zero)                 \
    X(waitid, wait4) X(syncfs, fsync) X(readahead, fsync) X(chroot, eperm) X(mount, eperm) X(umount2, eperm)  \
    X(clock_settime, eperm) X(settimeofday, eperm)  \
    X(rseq, enosys)

#define DECLARE(name) long sys_##name();
#define ENTER(name) [__NR_##name] = (call)(void (*)(void))sys_##name,
#define DECLARE_SHARED(name, other) long sys_##other();
#define ENTER_SHARED(name, other) [__NR_##name] = (call)(void (*)(void))sys_##other,

long sys_ioctl(int fd, uint64_t request, uint64_t argument);
DECLARE(zero) DECLARE(one) DECLARE(eperm) DECLARE(enosys) DECLARE(getres)
NAMED(DECLARE)
SHARED(DECLARE_SHARED)

static const call table[] = {NAMED(ENTER) SHARED(ENTER_SHARED)};
/* clang-format on */

uint32_t unknown_syscalls[512];
uint64_t syscall_count;

#define FIONCLEX 0x5450
#define FIOCLEX 0x5451
#define FIONBIO 0x5421

long sys_ioctl(int fd, uint64_t request, uint64_t argument) {
    struct file *file = file_get(fd);
    int on;
    if (!file) return -EBADF;
    switch ((uint32_t)request) {
    case FIOCLEX:
    case FIONCLEX: descriptor_set_close_on_exec(fd, request == FIOCLEX); return 0;
    case FIONBIO:
        if (copy_in(&on, argument, sizeof on)) return -EFAULT;
        file->flags = on ? file->flags | O_NONBLOCK : file->flags & ~(uint32_t)O_NONBLOCK;
        return 0;
    default: return file->ops->ioctl ? file->ops->ioctl(file, (unsigned)request, argument) : -ENOTTY;
    }
}

long not_implemented(void) { return not_implemented_as(current_frame->error); }

long not_implemented_as(uint64_t number) {
    unknown_syscalls[number < count_of(unknown_syscalls) ? number : count_of(unknown_syscalls) - 1]++;
    return -ENOSYS;
}

long sys_fork(void) { return not_implemented_as(__NR_fork); }
long sys_vfork(void) { return not_implemented_as(__NR_vfork); }

/* From entry.S. True: return by IRETQ, because more than RAX changed. */
bool system_call(struct frame *frame);
bool system_call(struct frame *frame) {
    uint64_t number = frame->error;
    call function = number < count_of(table) ? table[number] : NULL;
    current->frame = frame;
    syscall_count++;
    long result = function ? function(frame->rdi, frame->rsi, frame->rdx, frame->r10, frame->r8, frame->r9)
                           : not_implemented();
    frame->rax = (uint64_t)result;
    exchange_if_overdue();
    thread_after_call();
    bool changed = frame->vector != FRAME_SYSCALL;
    bool interrupted = result == -ERESTARTSYS || result == -ERESTARTNOHAND;
    if (interrupted || current->signalled || current->restore_mask || current->killed)
        changed |= signal_deliver(frame);
    return changed;
}
