/* The process and its surroundings: identity, limits, names, and everything that always succeeds. */
#include "thread.h"
#include <asm/prctl.h>
#include <linux/prctl.h>
#include <linux/resource.h>
#include <linux/sysinfo.h>
#include <linux/utsname.h>

long sys_zero(void) { return 0; }
long sys_one(void) { return 1; }
long sys_getppid(void) { return 0; }
long sys_eperm(void) { return -EPERM; }
long sys_enosys(void) { return -ENOSYS; } /* known to be missing, by every C library too: not counted */
long sys_wait4(void) { return -ECHILD; }

static struct new_utsname name = {"Linux", "lockstep", "6.1.0", "#1 Lockstep", "x86_64", "(none)"};

long sys_uname(uint64_t to) { return copy_out(to, &name, sizeof name); }

long sys_sethostname(uint64_t from, int bytes) {
    char given[sizeof name.nodename] = {0};
    if (bytes < 0 || bytes >= (int)sizeof given) return -EINVAL;
    if (copy_in(given, from, (size_t)bytes)) return -EFAULT;
    memcpy(name.nodename, given, sizeof given);
    return 0;
}

long sys_sysinfo(uint64_t to) {
    struct sysinfo info = {.uptime = (long)(clock_since_boot() / NS_PER_SECOND),
                           .totalram = boot->ram_bytes,
                           .freeram = pages_left() * PAGE,
                           .procs = 1,
                           .mem_unit = 1};
    return copy_out(to, &info, sizeof info);
}

long sys_getpgid(int pid) { return pid == 0 || pid == 1 ? 1 : -ESRCH; }
long sys_setpgid(int pid) { return pid == 0 || pid == 1 ? 0 : -ESRCH; }

/* getresuid and getresgid: three zeros, for root. */
long sys_getres(uint64_t a, uint64_t b, uint64_t c) {
    uint32_t zero = 0;
    return copy_out(a, &zero, 4) ?: copy_out(b, &zero, 4) ?: copy_out(c, &zero, 4);
}

long sys_getgroups(int size, uint64_t to) {
    uint32_t zero = 0;
    return size == 0 ? 1 : copy_out(to, &zero, 4) ?: 1;
}

/* ---- limits ------------------------------------------------------------------------------- */
static struct rlimit64 limits[RLIM_NLIMITS];
#define UNLIMITED (~0ull)

static struct rlimit64 limit_of(unsigned which) {
    if (limits[which].rlim_max) return limits[which];
    switch (which) {
    case RLIMIT_STACK: return (struct rlimit64){8 << 20, UNLIMITED};
    case RLIMIT_NOFILE: return (struct rlimit64){1024, 1024};
    case RLIMIT_CORE: return (struct rlimit64){0, UNLIMITED};
    default: return (struct rlimit64){UNLIMITED, UNLIMITED};
    }
}

long sys_prlimit64(int pid, unsigned which, uint64_t new, uint64_t old) {
    if (pid != 0 && pid != 1) return -ESRCH;
    if (which >= RLIM_NLIMITS) return -EINVAL;
    struct rlimit64 was = limit_of(which), now;
    if (new) {
        if (copy_in(&now, new, sizeof now)) return -EFAULT;
        if (now.rlim_cur > now.rlim_max) return -EINVAL;
        limits[which] = now;
    }
    return old ? copy_out(old, &was, sizeof was) : 0;
}

long sys_getrlimit(unsigned which, uint64_t to) { return sys_prlimit64(0, which, 0, to); }
long sys_setrlimit(unsigned which, uint64_t from) { return sys_prlimit64(0, which, from, 0); }

long sys_getrusage(int who, uint64_t to) {
    struct rusage usage = {0};
    clock_now();
    uint64_t ns = who == RUSAGE_CHILDREN ? 0 : cpu_time(who == RUSAGE_THREAD ? current : NULL);
    usage.ru_utime.tv_sec = (long)(ns / NS_PER_SECOND);
    usage.ru_utime.tv_usec = (long)(ns % NS_PER_SECOND / 1000);
    usage.ru_maxrss = (long)((boot->ram_bytes / PAGE - pages_left()) * 4);
    return copy_out(to, &usage, sizeof usage);
}

/* ---- the CPU and the thread ------------------------------------------------------------------ */
long sys_arch_prctl(int code, uint64_t address) {
    uint64_t base;
    switch (code) {
    case ARCH_SET_FS:
        if (address >= LS_USER_TOP) return -EPERM;
        __asm__ volatile("wrfsbase %0" ::"r"(address));
        return 0;
    case ARCH_SET_GS:
        if (address >= LS_USER_TOP) return -EPERM;
        __asm__ volatile("wrgsbase %0" ::"r"(address));
        return 0;
    case ARCH_GET_FS:
        __asm__ volatile("rdfsbase %0" : "=r"(base));
        return copy_out(address, &base, sizeof base);
    case ARCH_GET_GS:
        __asm__ volatile("rdgsbase %0" : "=r"(base));
        return copy_out(address, &base, sizeof base);
    default: return -EINVAL;
    }
}

long sys_prctl(int option, uint64_t argument) {
    char *name = current->tid == 1 ? program_name : current->name;
    switch (option) {
    case PR_SET_NAME: {
        uint64_t span = user_span(argument, sizeof program_name - 1, false);
        if (!span) return -EFAULT;
        memset(name, 0, sizeof program_name);
        memcpy(name, (const void *)argument, span);
        return 0;
    }
    case PR_GET_NAME: return copy_out(argument, name, sizeof program_name);
    case PR_GET_DUMPABLE: return 1;
    case PR_SET_DUMPABLE:
    case PR_SET_PDEATHSIG:
    case PR_SET_NO_NEW_PRIVS:
    case PR_SET_KEEPCAPS: return 0;
    default: return -EINVAL;
    }
}

/* The program is root and stays it: it has every capability, and giving some up is granted and means
   nothing. As capabilities(7) has it, who names no version that we know is told the newest. */
#define CAPABILITY_VERSION 0x20080522u
#define CAPABILITIES ((1ull << 41) - 1)

struct capability_header {
    uint32_t version;
    int32_t pid;
};

static long capability_check(uint64_t from, bool ask) {
    struct capability_header header;
    if (copy_in(&header, from, sizeof header)) return -EFAULT;
    if (header.version != CAPABILITY_VERSION) {
        header.version = CAPABILITY_VERSION;
        if (copy_out(from, &header, sizeof header)) return -EFAULT;
        return ask ? 0 : -EINVAL;
    }
    return header.pid < 0 ? -EINVAL : 1;
}

long sys_capget(uint64_t header, uint64_t data) {
    long result = capability_check(header, !data);
    if (result <= 0 || !data) return result < 0 ? result : 0;
    const uint32_t low = (uint32_t)CAPABILITIES, high = (uint32_t)(CAPABILITIES >> 32);
    const uint32_t sets[2][3] = {{low, low, 0}, {high, high, 0}}; /* effective, permitted, inheritable */
    return copy_out(data, sets, sizeof sets);
}

long sys_capset(uint64_t header, uint64_t data) {
    uint32_t sets[2][3];
    long result = capability_check(header, false);
    if (result <= 0) return result;
    return copy_in(sets, data, sizeof sets);
}

/* What a kernel says whose CPU has none. */
long sys_pkey_alloc(void) { return -ENOSPC; }

long sys_getrandom(uint64_t to, uint64_t bytes, unsigned flags) {
    if (flags & ~7u) return -EINVAL;
    uint64_t span = user_span(to, min_u64(bytes, INT32_MAX), true);
    if (bytes && !span) return -EFAULT;
    random_bytes((void *)to, span);
    return (long)span;
}

long sys_getcpu(uint64_t cpu, uint64_t node) {
    uint32_t zero = 0;
    if (cpu && copy_out(cpu, &zero, 4)) return -EFAULT;
    return node ? copy_out(node, &zero, 4) : 0;
}

long sys_getpriority(void) { return 20; }
