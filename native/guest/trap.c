/* Exceptions: demand paging first, then Linux signals, and a report when the kernel is at fault. */
#include "thread.h"

struct frame fatal_frame;

static bool from_kernel(const struct frame *frame) {
    return frame->rip >= (uint64_t)kernel_text && frame->rip < (uint64_t)kernel_text_end;
}

static int signal_of(uint64_t vector, int *code) {
    *code = SI_KERNEL;
    switch (vector) {
    case 0: *code = FPE_INTDIV; return SIGFPE;
    case 1: *code = TRAP_TRACE; return SIGTRAP;
    case 3: return SIGTRAP;
    case 6: *code = ILL_ILLOPN; return SIGILL;
    case 16:
    case 19: *code = FPE_FLTINV; return SIGFPE;
    case 17: *code = BUS_ADRALN; return SIGBUS;
    default: return SIGSEGV;
    }
}

/* Called by fault_entry for every exception and interrupt at CPL 3. */
void fault(struct frame *frame);
void fault(struct frame *frame) {
    int signal, code;
    uint64_t address = 0;
    if (frame->vector >= 32) { /* the monitor's: another thread or a timer wants to run */
        if (from_kernel(frame)) {
            port->reschedule = 1;
            return;
        }
        current->frame = frame;
        thread_interrupted();
        if (current->signalled || current->killed) signal_deliver(frame);
        return;
    }
    if (frame->vector == 14) {
        address = frame->address;
        signal = space_fault(address, frame->error, from_kernel(frame), &code);
        if (!signal) return;
    } else {
        signal = signal_of(frame->vector, &code);
        if (frame->vector == 0 || frame->vector == 6 || frame->vector == 16 || frame->vector == 19)
            address = frame->rip; /* Linux gives the instruction here */
        frame->address = address;
    }
    if (from_kernel(frame)) {
        port->exit_vector = (uint32_t)frame->vector;
        port->exit_rip = frame->rip;
        port->exit_address = address;
        static char why[96];
        format(why, sizeof why, "exception %lu at 0x%lx in the kernel, instruction", frame->vector, address);
        panic(why, frame->rip);
    }
    current->frame = frame;
    signal_force(frame, signal, code, address);
    signal_deliver(frame);
}
