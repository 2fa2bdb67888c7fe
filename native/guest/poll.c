/* poll and select: ask each file what holds now; wait at the monitor's door until something does. */
#include "file.h"

#define WANTED_ALWAYS (POLLERR | POLLHUP | POLLNVAL)

struct request { /* the one loop behind all four calls */
    int (*check)(struct request *request, bool *want_input);
    uint64_t deadline; /* 0: do not wait */
    struct pollfd *fds;
    unsigned count;
    uint64_t *asked[3], *answer[3]; /* select's sets: read, write, except */
};

static unsigned ready(int fd, unsigned events, bool *want_input) {
    struct file *file = file_get(fd);
    if (!file || !file->ops->poll) return file ? events & (POLLIN | POLLOUT) : POLLNVAL;
    if (file->ops == &console_ops && (events & POLLIN)) *want_input = true;
    unsigned now = file->ops->poll(file);
    if (now & POLLIN) now |= POLLRDNORM;
    if (now & POLLOUT) now |= POLLWRNORM;
    return now & (events | WANTED_ALWAYS);
}

static int check_poll(struct request *request, bool *want_input) {
    int n = 0;
    for (unsigned i = 0; i < request->count; i++) {
        struct pollfd *p = &request->fds[i];
        p->revents = p->fd < 0 ? 0 : (short)ready(p->fd, (unsigned)p->events, want_input);
        n += p->revents != 0;
    }
    return n;
}

static int check_select(struct request *request, bool *want_input) {
    static const unsigned events[3] = {POLLIN, POLLOUT, POLLPRI};
    static const unsigned counts[3] = {POLLIN | POLLHUP | POLLERR, POLLOUT | POLLERR, POLLPRI};
    int n = 0;
    for (int set = 0; set < 3; set++) {
        if (!request->asked[set]) continue;
        for (unsigned i = 0; i < (request->count + 63) / 64; i++) request->answer[set][i] = 0;
        for (unsigned fd = 0; fd < request->count; fd++) {
            if (!(request->asked[set][fd / 64] >> (fd % 64) & 1)) continue;
            unsigned now = ready((int)fd, events[set], want_input);
            if (now & POLLNVAL) return -EBADF;
            if (!(now & counts[set])) continue;
            request->answer[set][fd / 64] |= 1ull << (fd % 64);
            n++;
        }
    }
    return n;
}

static long wait(struct request *request) {
    for (bool asked = false;;) {
        bool want_input = false;
        int n = request->check(request, &want_input);
        if (n) return n;
        if (signal_ready()) return -ERESTARTNOHAND;
        if (clock_now_still() >= request->deadline) {
            if (asked || !want_input) return 0;
            exchange(LS_EX_TIME, NEVER, want_input); /* is there anything by now? */
        } else {
            exchange(LS_EX_WAIT, request->deadline, want_input);
        }
        asked = true;
    }
}

static long poll(uint64_t fds, unsigned count, uint64_t deadline) {
    if (count > FILES_MAX) return -EINVAL;
    if (!user_ok(fds, count * sizeof(struct pollfd), true)) return -EFAULT;
    struct request request = {.check = check_poll, .deadline = deadline, .fds = (void *)fds, .count = count};
    return wait(&request);
}

long sys_poll(uint64_t fds, unsigned count, int timeout_ms) {
    uint64_t deadline = timeout_ms < 0 ? NEVER
                        : timeout_ms   ? clock_now() + (uint64_t)timeout_ms * 1000000
                                       : 0;
    return poll(fds, count, deadline);
}

/* A deadline from a timespec, and the mask for the time of waiting. */
static long prepare(uint64_t timeout, uint64_t mask, uint64_t mask_bytes, uint64_t *deadline) {
    uint64_t ns, set;
    *deadline = NEVER;
    if (timeout) {
        if (!ns_from_timespec(timeout, &ns)) return -EINVAL;
        *deadline = ns ? clock_now() + ns : 0;
    }
    if (!mask) return 0;
    if (mask_bytes != 8) return -EINVAL;
    if (copy_in(&set, mask, sizeof set)) return -EFAULT;
    signal_set_temporary_mask(set);
    return 0;
}

/* Linux writes the time that is left back into the timeout. */
static void write_left(uint64_t timeout, uint64_t deadline, unsigned ns_per_unit) {
    uint64_t now = clock_now_still(), ns = deadline > now ? deadline - now : 0;
    long value[2] = {(long)(ns / NS_PER_SECOND), (long)(ns % NS_PER_SECOND / ns_per_unit)};
    if (timeout) copy_out(timeout, value, sizeof value);
}

long sys_ppoll(uint64_t fds, unsigned count, uint64_t timeout, uint64_t mask, uint64_t mask_bytes) {
    uint64_t deadline;
    long error = prepare(timeout, mask, mask_bytes, &deadline);
    if (error) return error;
    long n = poll(fds, count, deadline);
    write_left(timeout, deadline, 1);
    return n;
}

static long select(int count, const uint64_t sets[3], uint64_t deadline) {
    static uint64_t asked[3][FILES_MAX / 64], answer[3][FILES_MAX / 64];
    if (count < 0) return -EINVAL;
    if (count > FILES_MAX) count = FILES_MAX;
    size_t bytes = ((size_t)count + 63) / 64 * 8;
    struct request request = {.check = check_select, .deadline = deadline, .count = (unsigned)count};
    for (int i = 0; i < 3; i++) {
        if (!sets[i]) continue;
        if (!user_ok(sets[i], bytes, true)) return -EFAULT;
        memcpy(asked[i], (const void *)sets[i], bytes);
        request.asked[i] = asked[i];
        request.answer[i] = answer[i];
    }
    long n = wait(&request);
    for (int i = 0; n >= 0 && i < 3; i++)
        if (sets[i]) memcpy((void *)sets[i], answer[i], bytes);
    return n;
}

long sys_pselect6(int count, uint64_t in, uint64_t out, uint64_t except, uint64_t timeout, uint64_t mask) {
    uint64_t deadline, argument[2] = {0, 0};
    if (mask && copy_in(argument, mask, sizeof argument)) return -EFAULT;
    long error = prepare(timeout, argument[0], argument[1], &deadline);
    if (error) return error;
    long n = select(count, (uint64_t[]){in, out, except}, deadline);
    write_left(timeout, deadline, 1);
    return n;
}

long sys_select(int count, uint64_t in, uint64_t out, uint64_t except, uint64_t timeout) {
    struct timeval value;
    uint64_t deadline = NEVER;
    if (timeout) {
        if (copy_in(&value, timeout, sizeof value)) return -EFAULT;
        if (value.tv_sec < 0 || value.tv_usec < 0) return -EINVAL;
        uint64_t ns = (uint64_t)value.tv_sec * NS_PER_SECOND + (uint64_t)value.tv_usec * 1000;
        deadline = ns ? clock_now() + ns : 0;
    }
    long n = select(count, (uint64_t[]){in, out, except}, deadline);
    write_left(timeout, deadline, 1000);
    return n;
}
