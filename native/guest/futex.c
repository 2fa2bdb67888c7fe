/* Futexes: sleeping until a word of the program changes. One address space, so the address is the key. */
#include "file.h"
#include <linux/futex.h>

struct sleeper {
    struct sleeper *next, *previous;
    struct thread *thread;
    uint64_t word;
    uint32_t bits;
    bool queued;
};
static struct bucket { struct sleeper *first, *last; } buckets[256];

static struct bucket *bucket_of(uint64_t word) { return &buckets[(word >> 2) * 0x9e3779b97f4a7c15ull >> 56]; }

static void enqueue(struct sleeper *sleeper, uint64_t word) {
    struct bucket *bucket = bucket_of(word);
    sleeper->word = word;
    sleeper->queued = true;
    sleeper->next = NULL;
    sleeper->previous = bucket->last;
    if (bucket->last)
        bucket->last->next = sleeper;
    else
        bucket->first = sleeper;
    bucket->last = sleeper;
}

static void dequeue(struct sleeper *sleeper) {
    struct bucket *bucket = bucket_of(sleeper->word);
    if (sleeper->previous)
        sleeper->previous->next = sleeper->next;
    else
        bucket->first = sleeper->next;
    if (sleeper->next)
        sleeper->next->previous = sleeper->previous;
    else
        bucket->last = sleeper->previous;
    sleeper->queued = false;
}

long futex_wake(uint64_t word, unsigned count, uint32_t bits) {
    long woken = 0;
    for (struct sleeper *sleeper = bucket_of(word)->first, *next; sleeper && woken < count; sleeper = next) {
        next = sleeper->next;
        if (sleeper->word != word || !(sleeper->bits & bits)) continue;
        dequeue(sleeper);
        thread_wake(sleeper->thread);
        woken++;
    }
    return woken;
}

static long wait(uint64_t word, uint32_t value, uint64_t deadline, uint32_t bits) {
    uint32_t now;
    long error = 0;
    if (!bits) return -EINVAL;
    if (copy_in(&now, word, sizeof now)) return -EFAULT;
    if (now != value) return -EAGAIN;
    struct sleeper sleeper = {.thread = current, .bits = bits};
    enqueue(&sleeper, word);
    while (sleeper.queued && !error) error = thread_sleep(deadline, "a futex", false);
    if (!sleeper.queued) return 0;
    dequeue(&sleeper);
    return error == -ERESTARTSYS && deadline != NEVER ? -ERESTARTNOHAND : error;
}

/* Wakes some who sleep at one word and has others sleep at another. */
static long requeue(uint64_t from, uint64_t to, unsigned wake, unsigned move) {
    long woken = futex_wake(from, wake, ~0u);
    unsigned moved = 0;
    for (struct sleeper *sleeper = bucket_of(from)->first, *next; sleeper && moved < move; sleeper = next) {
        next = sleeper->next;
        if (sleeper->word != from) continue;
        moved++;
        if (from == to) continue;
        dequeue(sleeper);
        enqueue(sleeper, to);
    }
    return woken + moved;
}

static long wake_op(uint64_t word, uint64_t second, unsigned wake, unsigned wake_second, uint32_t code) {
    if (!user_ok(second, 4, true)) return -EFAULT;
    uint32_t *at = (uint32_t *)second, old = *at;
    int32_t argument = (int32_t)(code << 8) >> 20, compared = (int32_t)(code << 20) >> 20;
    unsigned operation = code >> 28 & 7, comparison = code >> 24 & 15;
    if (code >> 28 & FUTEX_OP_OPARG_SHIFT) argument = (int32_t)(1u << (argument & 31));
    uint32_t with = (uint32_t)argument;
    switch (operation) {
    case FUTEX_OP_SET: *at = with; break;
    case FUTEX_OP_ADD: *at = old + with; break;
    case FUTEX_OP_OR: *at = old | with; break;
    case FUTEX_OP_ANDN: *at = old & ~with; break;
    case FUTEX_OP_XOR: *at = old ^ with; break;
    default: return -ENOSYS;
    }
    bool holds;
    switch (comparison) {
    case FUTEX_OP_CMP_EQ: holds = (int32_t)old == compared; break;
    case FUTEX_OP_CMP_NE: holds = (int32_t)old != compared; break;
    case FUTEX_OP_CMP_LT: holds = (int32_t)old < compared; break;
    case FUTEX_OP_CMP_LE: holds = (int32_t)old <= compared; break;
    case FUTEX_OP_CMP_GT: holds = (int32_t)old > compared; break;
    case FUTEX_OP_CMP_GE: holds = (int32_t)old >= compared; break;
    default: return -ENOSYS;
    }
    long woken = futex_wake(word, wake, ~0u);
    return holds ? woken + futex_wake(second, wake_second, ~0u) : woken;
}

static long deadline_of(int operation, uint64_t timeout, uint64_t *deadline) {
    uint64_t ns;
    *deadline = NEVER;
    if (!timeout) return 0;
    if (!user_ok(timeout, sizeof(struct timespec), false)) return -EFAULT;
    if (!ns_from_timespec(timeout, &ns)) return -EINVAL;
    if ((operation & FUTEX_CMD_MASK) == FUTEX_WAIT)
        *deadline = clock_now() + ns;
    else
        *deadline = operation & FUTEX_CLOCK_REALTIME ? ns : ns + port->boot_time_ns;
    return 0;
}

long sys_futex(uint64_t word, int operation, uint32_t value, uint64_t timeout, uint64_t second,
               uint32_t third) {
    uint64_t deadline;
    uint32_t now;
    if (word % 4) return -EINVAL;
    switch (operation & FUTEX_CMD_MASK) {
    case FUTEX_WAIT: third = FUTEX_BITSET_MATCH_ANY; __attribute__((fallthrough));
    case FUTEX_WAIT_BITSET: {
        long error = deadline_of(operation, timeout, &deadline);
        return error ? error : wait(word, value, deadline, third);
    }
    case FUTEX_WAKE: return futex_wake(word, value, ~0u);
    case FUTEX_WAKE_BITSET: return third ? futex_wake(word, value, third) : -EINVAL;
    case FUTEX_CMP_REQUEUE:
        if (copy_in(&now, word, sizeof now)) return -EFAULT;
        if (now != third) return -EAGAIN;
        __attribute__((fallthrough));
    case FUTEX_REQUEUE: return requeue(word, second, value, (unsigned)timeout);
    case FUTEX_WAKE_OP: return wake_op(word, second, value, (unsigned)timeout, third);
    default: return not_implemented(); /* the PI family */
    }
}
