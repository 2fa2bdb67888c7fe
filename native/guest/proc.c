/* /proc: files whose text is made when they are opened. */
#include "file.h"

static char text[16384];

#define say(inode, ...)                                                                                      \
    do {                                                                                                     \
        int n_ = format(text, sizeof text, __VA_ARGS__);                                                     \
        inode_write(inode, (inode)->size, text, (size_t)n_);                                                 \
    } while (0)

static void say_maps(struct inode *inode) {
    for (unsigned i = 0; i < space.count; i++) {
        const struct vma *v = space.vmas + i;
        const char *name = v->end == LS_USER_TOP - PAGE           ? "[stack]"
                           : v->start == page_up(space.brk_start) ? "[heap]"
                           : v->inode                             ? exe_path
                                                                  : "";
        say(inode, "%08lx-%08lx %c%c%c%c %08lx 00:17 %lu %s\n", v->start, v->end,
            v->prot & PROT_READ ? 'r' : '-', v->prot & PROT_WRITE ? 'w' : '-',
            v->prot & PROT_EXEC ? 'x' : '-', v->flags & MAP_SHARED ? 's' : 'p', v->offset,
            v->inode ? (unsigned long)v->inode->number : 0ul, name);
    }
}

struct inode *proc_open(struct inode *inode) {
    struct inode *made = inode_new(inode->mode);
    if (!made) return NULL;
    inode_use(made);
    uint64_t up = clock_since_boot() / (NS_PER_SECOND / 100);
    uint64_t total = boot->ram_bytes / 1024, left = pages_left() * 4;
    switch (inode->proc) {
    case PROC_MAPS: say_maps(made); break;
    case PROC_CPUINFO:
        say(made, "processor\t: 0\nvendor_id\t: Lockstep\nmodel name\t: Lockstep virtual CPU\ncpu MHz\t\t: "
                  "2000.000\n"
                  "cpu cores\t: 1\nsiblings\t: 1\n\n");
        break;
    case PROC_MEMINFO:
        say(made,
            "MemTotal:       %8lu kB\nMemFree:        %8lu kB\nMemAvailable:   %8lu kB\nBuffers:             "
            "  0 kB\n"
            "Cached:                0 kB\nSwapTotal:             0 kB\nSwapFree:              0 kB\n",
            total, left, left);
        break;
    case PROC_UPTIME: say(made, "%lu.%02lu 0.00\n", up / 100, up % 100); break;
    case PROC_STAT:
        say(made, "cpu  %lu 0 0 0 0 0 0 0 0 0\ncpu0 %lu 0 0 0 0 0 0 0 0 0\nbtime %lu\nprocesses 1\n", up, up,
            (unsigned long)(port->boot_time_ns / NS_PER_SECOND));
        break;
    case PROC_SELF_STAT:
        say(made,
            "1 (%s) R 0 1 1 34816 1 0 0 0 0 0 %lu 0 0 0 20 0 1 0 0 0 0 18446744073709551615 "
            "0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
            program_name, up);
        break;
    case PROC_STATUS:
        say(made,
            "Name:\t%s\nState:\tR (running)\nTgid:\t1\nPid:\t1\nPPid:\t0\n"
            "Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nThreads:\t%u\n",
            program_name, thread_count);
        break;
    case PROC_CMDLINE: inode_write(made, 0, program_name, strlen(program_name) + 1); break;
    case PROC_MOUNTS: say(made, "rootfs / rootfs rw 0 0\n"); break;
    case PROC_VERSION: say(made, "Linux version 6.1.0 (lockstep)\n"); break;
    case PROC_LOADAVG: say(made, "0.00 0.00 0.00 1/1 1\n"); break;
    default: break;
    }
    made->number = inode->number;
    return made;
}

long proc_link(struct inode *inode, char *to, size_t size) {
    return inode->proc == PROC_EXE ? format(to, size, "%s", exe_path) : -EINVAL;
}
