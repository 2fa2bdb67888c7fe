/*
 * The frame a handler runs on: the program's registers on its own stack, laid out as Linux
 * does on x86-64 (struct rt_sigframe), with the vector state as an XSAVE image (vectors.c).
 */
#include "thread.h"
#include <asm/sigcontext.h>
#include <asm/ucontext.h>

struct sigframe {
    uint64_t restorer;
    struct ucontext context;
    siginfo_t info;
};

#define LEGACY_BYTES 512u
#define RED_ZONE 128u
#define UC_FLAGS 7u /* UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS */

static void save_vectors(uint8_t *area, uint32_t bytes) {
    vectors_save(area);
    *(uint64_t *)(area + LEGACY_BYTES) = boot->xcr0;
    struct _fpx_sw_bytes *software = (void *)(area + LEGACY_BYTES - sizeof *software);
    *software = (struct _fpx_sw_bytes){.magic1 = FP_XSTATE_MAGIC1,
                                       .extended_size = bytes + FP_XSTATE_MAGIC2_SIZE,
                                       .xfeatures = boot->xcr0,
                                       .xstate_size = bytes};
    *(uint32_t *)(area + bytes) = FP_XSTATE_MAGIC2;
}

static uint64_t choose_stack(const struct frame *frame, uint64_t flags) {
    const stack_t *stack = &current->signal_stack;
    bool on_it = frame->rsp - (uint64_t)stack->ss_sp < stack->ss_size;
    if ((flags & SA_ONSTACK) && stack->ss_size && !on_it) return (uint64_t)stack->ss_sp + stack->ss_size;
    return frame->rsp - RED_ZONE;
}

static void save_registers(struct sigcontext *to, const struct frame *frame) {
    to->r8 = frame->r8, to->r9 = frame->r9, to->r10 = frame->r10, to->r11 = frame->r11;
    to->r12 = frame->r12, to->r13 = frame->r13, to->r14 = frame->r14, to->r15 = frame->r15;
    to->rdi = frame->rdi, to->rsi = frame->rsi, to->rbp = frame->rbp, to->rbx = frame->rbx;
    to->rdx = frame->rdx, to->rax = frame->rax, to->rcx = frame->rcx, to->rsp = frame->rsp;
    to->rip = frame->rip, to->eflags = frame->rflags & ~RFLAGS_RF;
    to->cs = LS_SEL_USER_CODE, to->__pad0 = LS_SEL_USER_DATA;
}

void sigframe_push(struct frame *frame, int signal, const siginfo_t *info) {
    const struct signal_action *action = &signals.action[signal];
    uint32_t bytes = vectors_bytes();
    uint64_t top = choose_stack(frame, action->flags);
    uint64_t area = (top - bytes - FP_XSTATE_MAGIC2_SIZE) & ~63ull;
    uint64_t at = ((area - sizeof(struct sigframe)) & ~15ull) - 8;
    if (!user_ok(at, top - at, true) || action->handler >= LS_USER_TOP) { /* Linux kills too */
        if (!fatal_frame.rip) fatal_frame = *frame;
        exit_with_signal(SIGSEGV);
    }
    struct sigframe *to = (void *)at;
    memset(to, 0, sizeof *to);
    save_vectors((uint8_t *)area, bytes);
    to->restorer = action->restorer;
    to->info = *info;
    to->context.uc_flags = UC_FLAGS;
    to->context.uc_stack = current->signal_stack;
    to->context.uc_sigmask = current->restore_mask ? current->saved_mask : current->blocked;
    save_registers(&to->context.uc_mcontext, frame);
    to->context.uc_mcontext.fpstate = (void *)area;
    to->context.uc_mcontext.oldmask = to->context.uc_sigmask;
    to->context.uc_mcontext.cr2 = signal == SIGSEGV || signal == SIGBUS ? (uint64_t)info->si_addr : 0;
    frame->rip = action->handler;
    frame->rsp = at;
    frame->rdi = (uint64_t)signal;
    frame->rsi = (uint64_t)&to->info;
    frame->rdx = (uint64_t)&to->context;
    frame->rax = 0;
    frame->rflags &= ~(RFLAGS_DF | RFLAGS_TF | RFLAGS_RF);
}

static bool restore_vectors(uint64_t address) {
    static uint8_t copy[16384] __attribute__((aligned(64)));
    uint32_t bytes = vectors_bytes();
    if (!address) return true;
    if (copy_in(copy, address, bytes)) return false;
    *(uint64_t *)(copy + LEGACY_BYTES) = boot->xcr0;
    vectors_restore(copy);
    return true;
}

/* The handler's RET popped the restorer, so the frame starts 8 bytes below RSP. */
long sys_rt_sigreturn(void) {
    struct frame *frame = current_frame;
    static struct sigframe saved;
    if (copy_in(&saved, frame->rsp - 8, sizeof saved) ||
        !restore_vectors((uint64_t)saved.context.uc_mcontext.fpstate)) {
        fatal_frame = *frame;
        exit_with_signal(SIGSEGV);
    }
    const struct sigcontext *from = &saved.context.uc_mcontext;
    frame->r8 = from->r8, frame->r9 = from->r9, frame->r10 = from->r10, frame->r11 = from->r11;
    frame->r12 = from->r12, frame->r13 = from->r13, frame->r14 = from->r14, frame->r15 = from->r15;
    frame->rdi = from->rdi, frame->rsi = from->rsi, frame->rbp = from->rbp, frame->rbx = from->rbx;
    frame->rdx = from->rdx, frame->rcx = from->rcx, frame->rsp = from->rsp, frame->rip = from->rip;
    frame->rflags = (from->eflags & 0x40cd5) | RFLAGS_PROGRAM; /* arithmetic flags, TF, DF, AC */
    frame->vector = 0;                                         /* not a call to restart */
    if (frame->rip >= LS_USER_TOP) {                           /* IRETQ in the kernel must not fault on it */
        fatal_frame = *frame;
        exit_with_signal(SIGSEGV);
    }
    signal_block(saved.context.uc_sigmask);
    return (long)from->rax;
}
