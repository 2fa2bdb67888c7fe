/* From the monitor's hand-over to the program's first instruction, and its end. */
#include "file.h"
#include "net/net.h"

struct frame first_frame = {.cs = LS_SEL_USER_CODE, .ss = LS_SEL_USER_DATA, .rflags = RFLAGS_PROGRAM};

#define PARTING_NS (5 * NS_PER_SECOND)

/* What any kernel does for a process that ends: its connections are closed, and what it has sent on them
 * still arrives, unless a peer takes too long. */
static void part(void) {
    files_exit();
    uint64_t end = clock_now_still() + PARTING_NS;
    while (!net_delivered() && clock_now_still() < end) exchange(LS_EX_WAIT, end, false);
}

static _Noreturn void leave(uint32_t kind, uint32_t code) {
    /* The last chance to ask for the files that the program leaves. */
    if (kind != LS_EXIT_PANIC) exchange(0, NEVER, false);
    port->exit_kind = kind;
    port->exit_code = code;
    for (;;) __asm__ volatile("out %%al, %0" ::"i"(LS_PORT_EXIT), "a"(0) : "memory");
}

static const char *skip_string(const char *s) { return s + strlen(s) + 1; }

void kernel_main(void) {
    assert(boot->magic == LS_BOOT_MAGIC);
    assert((uint64_t)reflect_frame == LS_DIRECT_MAP + LS_GPA_REFLECT);
    clock_exchanged(true);
    threads_start();
    network_start();
    archive_open();
    devices_start();
    console_start();
    files_start();
    const char *no_address = lease_wait();
    if (no_address) {
        format((char *)port->report, sizeof port->report, "%s", no_address);
        leave(LS_EXIT_PANIC, 0);
    }

    /* The boot block's strings: argv..., env..., cwd, exe. */
    const char *strings = direct(boot->strings_gpa), *directory = strings;
    for (uint32_t i = 0; i < boot->argc + boot->envc; i++) directory = skip_string(directory);
    static struct place place;
    if (!path_find(&place, root, directory, 0) && place.inode && S_ISDIR(place.inode->mode)) {
        cwd = place.inode;
        inode_use(cwd);
    }
    struct strings arguments = {(char *)strings, (size_t)(directory - strings), boot->argc, boot->envc};
    const char *exe = skip_string(directory);
    long error = exec_load(&first_frame, exe, &arguments);
    if (error) {
        format((char *)port->report, sizeof port->report, "cannot start %s: error %ld%s", exe, -error,
               error == -ENOEXEC ? " (not an x86-64 ELF program)" : "");
        leave(LS_EXIT_PANIC, (uint32_t)-error);
    }
}

void exit_with_status(int status) {
    part();
    leave(LS_EXIT_STATUS, (uint32_t)status & 0xff);
}

static const char *signal_sentence(int signal) {
    switch (signal) {
    case SIGSEGV: return "segmentation fault";
    case SIGBUS: return "bus error";
    case SIGILL: return "illegal instruction";
    case SIGFPE: return "arithmetic error";
    case SIGTRAP: return "breakpoint";
    case SIGABRT: return "aborted";
    case SIGKILL: return "killed";
    default: return NULL;
    }
}

void exit_with_signal(int signal) {
    const char *sentence = signal_sentence(signal);
    char *report = (char *)port->report;
    int n = sentence ? format(report, sizeof port->report, "%s", sentence)
                     : format(report, sizeof port->report, "ended by signal %d", signal);
    if (fatal_frame.rip) {
        port->exit_vector = (uint32_t)fatal_frame.vector;
        port->exit_rip = fatal_frame.rip;
        port->exit_address = fatal_frame.address;
        format(report + n, sizeof port->report - (size_t)n, " at 0x%lx (instruction 0x%lx)",
               fatal_frame.address, fatal_frame.rip);
    }
    part();
    leave(LS_EXIT_SIGNAL, (uint32_t)signal);
}

void exit_with_report(int signal, const char *sentence) {
    format((char *)port->report, sizeof port->report, "%s", sentence);
    leave(LS_EXIT_SIGNAL, (uint32_t)signal);
}

void panic(const char *why, uint64_t value) {
    format((char *)port->report, sizeof port->report, "guest kernel: %s (0x%lx)", why, value);
    leave(LS_EXIT_PANIC, 0);
}
