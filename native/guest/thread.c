/* Threads' lives: clone, clone3, exit; what dies with one; and the calls about themselves. */
#include "file.h"
#include <linux/futex.h>
#include <linux/sched.h>

#define ROBUST_MAX 2048 /* entries walked; the list is the program's and may be a ring */
#define TID_MAX 4194304

static uint8_t first_vectors[16384] __attribute__((aligned(64)));
static struct thread main_thread = {.tid = 1, .vectors = first_vectors};
struct thread *current = &main_thread, *threads = &main_thread;
unsigned thread_count = 1;
static struct thread *last_thread = &main_thread;
static int leader_status, last_tid = 1;

void threads_start(void) {
    main_thread.stack_top = (uint64_t)kernel_stack_top;
    main_thread.signal_stack = (stack_t){.ss_flags = SS_DISABLE};
}

struct thread *thread_find(int tid) {
    for (struct thread *thread = threads; thread; thread = thread->next)
        if (thread->tid == tid) return thread;
    return NULL;
}

static int new_tid(void) {
    do last_tid = last_tid == TID_MAX ? 2 : last_tid + 1;
    while (thread_find(last_tid));
    return last_tid;
}

static struct thread *thread_new(void) {
    struct thread *thread = object_alloc(sizeof *thread);
    if (!thread) return NULL;
    thread->vectors = object_alloc(vectors_bytes()); /* a power of two, so aligned for XSAVE */
    if (thread->vectors) thread->stack_top = kernel_stack_alloc();
    if (thread->stack_top) return thread;
    object_free(thread->vectors, vectors_bytes());
    object_free(thread, sizeof *thread);
    return NULL;
}

void thread_free(struct thread *thread) {
    if (thread == &main_thread) return;
    kernel_stack_free(thread->stack_top);
    object_free(thread->vectors, vectors_bytes());
    object_free(thread, sizeof *thread);
}

/* ---- birth ---------------------------------------------------------------------------------- */
/* Its kernel stack: the frame to leave with, and below it what switch_stacks pops. */
static void prepare_stack(struct thread *thread) {
    thread->frame = (struct frame *)(thread->stack_top - 8 - sizeof(struct frame));
    *thread->frame = *current->frame;
    thread->frame->rax = 0;
    thread->frame->vector = 0;
    uint64_t *words = (uint64_t *)thread->frame - 7;
    memset(words, 0, 48);
    words[6] = (uint64_t)thread_begin;
    thread->stack_pointer = (uint64_t)words;
}

static long spawn(const struct clone_args *args) {
    uint64_t flags = args->flags, needed = CLONE_VM | CLONE_SIGHAND | CLONE_THREAD;
    int tid;
    if (!(flags & CLONE_VM)) return not_implemented_as(__NR_fork);
    if ((flags & needed) != needed) return not_implemented_as(__NR_vfork);
    if ((flags & CLONE_SETTLS) && args->tls >= LS_USER_TOP) return -EPERM;
    if ((flags & CLONE_PARENT_SETTID) && !user_ok(args->parent_tid, 4, true)) return -EFAULT;
    struct thread *thread = thread_count < THREADS_MAX ? thread_new() : NULL;
    if (!thread) return -EAGAIN;
    thread->tid = tid = new_tid();
    memcpy(thread->name, current->tid == 1 ? program_name : current->name, sizeof thread->name);
    prepare_stack(thread);
    if (args->stack) thread->frame->rsp = args->stack + args->stack_size;
    vectors_save(thread->vectors);
    __asm__ volatile("rdfsbase %0; rdgsbase %1" : "=&r"(thread->fs), "=&r"(thread->gs));
    if (flags & CLONE_SETTLS) thread->fs = args->tls;
    if (flags & CLONE_CHILD_CLEARTID) thread->clear_tid = args->child_tid;
    thread->blocked = current->blocked;
    thread->signal_stack = (stack_t){.ss_flags = SS_DISABLE};
    if (flags & CLONE_PARENT_SETTID) copy_out(args->parent_tid, &tid, sizeof tid);
    if (flags & CLONE_CHILD_SETTID) copy_out(args->child_tid, &tid, sizeof tid);
    thread->previous = last_thread;
    last_thread->next = thread;
    last_thread = thread;
    thread_count++;
    thread_enqueue(thread);
    return tid;
}

long sys_clone(uint64_t flags, uint64_t stack, uint64_t parent_tid, uint64_t child_tid, uint64_t tls) {
    return spawn(&(struct clone_args){.flags = flags & ~0xffull,
                                      .stack = stack,
                                      .parent_tid = parent_tid,
                                      .child_tid = child_tid,
                                      .tls = tls});
}

long sys_clone3(uint64_t from, uint64_t size) {
    struct clone_args args = {0};
    if (size < CLONE_ARGS_SIZE_VER0) return -EINVAL;
    if (size > sizeof args) return -E2BIG;
    if (copy_in(&args, from, size)) return -EFAULT;
    if (args.set_tid_size || (args.flags & (CLONE_INTO_CGROUP | 0xff))) return -EINVAL;
    return spawn(&args);
}

/* ---- death ------------------------------------------------------------------------------------- */
static void owner_died(uint64_t word) {
    if (word % 4 || !user_ok(word, 4, true)) return;
    uint32_t *futex = (uint32_t *)word;
    if ((*futex & FUTEX_TID_MASK) != (uint32_t)current->tid) return;
    bool waited_for = *futex & FUTEX_WAITERS;
    *futex = (*futex & FUTEX_WAITERS) | FUTEX_OWNER_DIED;
    if (waited_for) futex_wake(word, 1, ~0u);
}

static void walk_robust_list(void) {
    struct robust_list_head head;
    uint64_t entry, next;
    if (!current->robust_list || copy_in(&head, current->robust_list, sizeof head)) return;
    uint64_t pending = (uint64_t)head.list_op_pending & ~1ull;
    uint64_t offset = (uint64_t)head.futex_offset;
    entry = (uint64_t)head.list.next & ~1ull;
    for (int i = 0; i < ROBUST_MAX && entry != current->robust_list; i++, entry = next & ~1ull) {
        bool readable = !copy_in(&next, entry, sizeof next); /* before the owner of the lock changes it */
        if (entry != pending) owner_died(entry + offset);
        if (!readable) break;
    }
    if (pending) owner_died(pending + offset);
}

static void unlink_thread(struct thread *thread) {
    if (thread->previous)
        thread->previous->next = thread->next;
    else
        threads = thread->next;
    if (thread->next)
        thread->next->previous = thread->previous;
    else
        last_thread = thread->previous;
    thread_count--;
}

void thread_exit(int status) {
    if (!current->killed) {
        uint32_t zero = 0;
        walk_robust_list();
        if (current->clear_tid && !copy_out(current->clear_tid, &zero, sizeof zero))
            futex_wake(current->clear_tid, 1, ~0u);
    }
    if (current->tid == 1) leader_status = status;
    if (thread_count == 1) exit_with_status(leader_status);
    unlink_thread(current);
    signal_thread_ended();
    thread_leave();
}

/* Whoever calls execve goes on alone, as the process's first thread. */
void threads_exec(void) {
    for (struct thread *thread = threads; thread; thread = thread->next) {
        if (thread == current) continue;
        thread->killed = true;
        thread_wake(thread);
    }
    while (thread_count > 1) thread_yield();
    current->tid = 1;
    current->clear_tid = current->robust_list = 0;
}

long sys_exit(int status) { thread_exit((int)((uint32_t)status & 0xff)); }
long sys_exit_group(int status) { exit_with_status(status); }

/* ---- about themselves ------------------------------------------------------------------------------ */
long sys_gettid(void) { return current->tid; }

long sys_set_tid_address(uint64_t address) {
    current->clear_tid = address;
    return current->tid;
}

long sys_set_robust_list(uint64_t head, uint64_t size) {
    if (size != sizeof(struct robust_list_head)) return -EINVAL;
    current->robust_list = head;
    return 0;
}

long sys_get_robust_list(int tid, uint64_t head, uint64_t size) {
    struct thread *thread = tid ? thread_find(tid) : current;
    uint64_t bytes = sizeof(struct robust_list_head);
    if (!thread) return -ESRCH;
    return copy_out(size, &bytes, sizeof bytes) ?: copy_out(head, &thread->robust_list, 8);
}

static bool known(int tid) { return tid == 0 || thread_find(tid); }

long sys_sched_getaffinity(int tid, uint64_t size, uint64_t to) {
    uint64_t one = 1;
    if (!known(tid)) return -ESRCH;
    if (size < 8 || size % 8) return -EINVAL;
    return copy_out(to, &one, sizeof one) ?: 8;
}

long sys_sched_getparam(int tid, uint64_t to) {
    uint32_t zero = 0;
    return known(tid) ? copy_out(to, &zero, sizeof zero) : -ESRCH;
}

/* With one CPU every other thread has passed a barrier when it next runs. */
long sys_membarrier(int command) {
    enum { QUERY = 0, SUPPORTED = 0x1f };
    if (command == QUERY) return SUPPORTED;
    return command & ~SUPPORTED ? -EINVAL : 0;
}
