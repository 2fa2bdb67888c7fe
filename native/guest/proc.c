/* /proc: files whose text is made when they are opened. */
#include "file.h"

static char text[16384];

#define say(inode, ...)                                                                                      \
    do {                                                                                                     \
        int n_ = format(text, sizeof text, __VA_ARGS__);                                                     \
        inode_write(inode, (inode)->size, text, (size_t)n_);                                                 \
    } while (0)

/* The name of a mapped file, by looking through the tree: nobody else asks an inode for it. Directories
 * that nobody has looked into yet are left unread: no file of theirs can be mapped. */
#define DEPTH_MAX 24
static bool name_below(struct inode *directory, const struct inode *wanted, char *path, size_t length,
                       unsigned depth) {
    for (struct entry *e = directory->first; e; e = e->next) {
        if (length + e->length + 2 > PATH_MAX) continue;
        path[length] = '/';
        memcpy(path + length + 1, e->name, e->length);
        path[length + 1 + e->length] = 0;
        if (e->inode == wanted) return true;
        if (S_ISDIR(e->inode->mode) && !e->inode->proc && depth < DEPTH_MAX &&
            name_below(e->inode, wanted, path, length + 1 + e->length, depth + 1))
            return true;
    }
    path[length] = 0;
    return false;
}

static void say_maps(struct inode *inode) {
    static char path[PATH_MAX];
    const struct inode *named = NULL;
    for (unsigned i = 0; i < space.count; i++) {
        const struct vma *v = space.vmas + i;
        if (v->inode && v->inode != named) { /* a library's areas lie side by side */
            named = v->inode;
            name_below(root, named, path, 0, 0);
        }
        const char *name = v->end == LS_USER_TOP - PAGE           ? "[stack]"
                           : v->start == page_up(space.brk_start) ? "[heap]"
                           : v->start == LS_VDSO                  ? "[vdso]"
                           : v->start == LS_VDSO_TABLE            ? "[vdso table]"
                           : v->inode                             ? path
                                                                  : "";
        say(inode, "%08lx-%08lx %c%c%c%c %08lx 00:17 %lu %s\n", v->start, v->end,
            v->prot & PROT_READ ? 'r' : '-', v->prot & PROT_WRITE ? 'w' : '-',
            v->prot & PROT_EXEC ? 'x' : '-', v->flags & MAP_SHARED ? 's' : 'p', v->offset,
            v->inode ? (unsigned long)v->inode->number : 0ul, name);
    }
}

/* The CPU that the machine shows: asked of the monitor, as the program's own CPUID is. */
struct cpuid {
    uint32_t eax, ebx, ecx, edx;
};
static struct cpuid cpuid(uint32_t leaf) {
    struct cpuid r = {.eax = leaf};
    __asm__ volatile("out %%al, %4"
                     : "+a"(r.eax), "=b"(r.ebx), "+c"(r.ecx), "=d"(r.edx)
                     : "i"(LS_PORT_CPUID));
    return r;
}

static void say_flags(struct inode *inode, uint32_t bits, const char *names) {
    for (unsigned bit = 0; *names; bit++) { /* one name for each bit, "-" for one that has none */
        size_t length = 0;
        while (names[length] && names[length] != ' ') length++;
        if ((bits >> bit & 1) && names[0] != '-') {
            inode_write(inode, inode->size, " ", 1);
            inode_write(inode, inode->size, names, length);
        }
        names += length + (names[length] == ' ');
    }
}

static void say_cpuinfo(struct inode *inode) {
    struct cpuid zero = cpuid(0), one = cpuid(1), seven = cpuid(7);
    char vendor[13] = {0};
    memcpy(vendor, &zero.ebx, 4), memcpy(vendor + 4, &zero.edx, 4), memcpy(vendor + 8, &zero.ecx, 4);
    uint32_t family = one.eax >> 8 & 15, model = one.eax >> 4 & 15;
    if (family == 15) family += one.eax >> 20 & 255;
    if (family >= 6) model |= one.eax >> 12 & 0xf0;
    say(inode, "processor\t: 0\nvendor_id\t: %s\ncpu family\t: %u\nmodel\t\t: %u\n", vendor, family, model);
    say(inode, "model name\t: Lockstep virtual processor\nstepping\t: %u\ncpu MHz\t\t: 2000.000\n",
        one.eax & 15);
    say(inode, "physical id\t: 0\nsiblings\t: 1\ncore id\t\t: 0\ncpu cores\t: 1\nflags\t\t:");
    say_flags(inode, one.edx,
              "fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov pat pse36 - clflush - - - mmx "
              "fxsr sse sse2 ss ht");
    say_flags(inode, one.ecx,
              "pni pclmulqdq - - - - - - - ssse3 - - fma cx16 - - - - - sse4_1 sse4_2 - movbe popcnt - aes "
              "xsave - avx f16c");
    say_flags(inode, seven.ebx,
              "fsgsbase - - bmi1 - avx2 - smep bmi2 erms - - - - - - - - - - - - - - - - - - - sha_ni");
    say(inode, "\nclflush size\t: 64\ncache_alignment\t: 64\naddress sizes\t: 48 bits physical, 48 bits "
               "virtual\n\n");
}

/* A piece of the program's own memory: its arguments, as it may have changed them. */
static void say_memory(struct inode *inode, uint64_t start, uint64_t end) {
    uint64_t span = user_span(start, end - start, false);
    if (span) inode_write(inode, 0, (const void *)start, span);
}

struct inode *proc_open(struct inode *inode) {
    struct inode *made = inode_new(inode->mode);
    if (!made) return NULL;
    inode_use(made);
    uint64_t up = clock_since_boot() / (NS_PER_SECOND / 100);
    uint64_t total = boot->ram_bytes / 1024, left = pages_left() * 4;
    switch (inode->proc) {
    case PROC_MAPS: say_maps(made); break;
    case PROC_CPUINFO: say_cpuinfo(made); break;
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
    case PROC_CMDLINE: say_memory(made, program_strings.arguments, program_strings.environment); break;
    case PROC_ENVIRON: say_memory(made, program_strings.environment, program_strings.end); break;
    case PROC_COMM: say(made, "%s\n", program_name); break;
    case PROC_STATM: {
        unsigned long used = boot->ram_bytes / PAGE - pages_left();
        say(made, "%lu %lu 0 0 0 %lu 0\n", used, used, used);
        break;
    }
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
