/* poll and select: ask each file what holds now; sleep until something does. */
#include "file.h"

#define WANTED_ALWAYS (POLLERR | POLLHUP | POLLNVAL)

/* Places in the queues of all files asked about, in pieces because the small objects end at 2048 bytes. */
#define PLACES 25
struct places {
    struct places *next;
    unsigned count;
    struct place_in_queue {
        struct waiter waiter;
        struct file *file; /* held while we hang in its queue */
    } place[PLACES];
};

struct request { /* the one loop behind all four calls */
    int (*check)(struct request *request);
    uint64_t deadline; /* 0: do not wait */
    uint64_t fds;
    unsigned count;
    uint64_t *asked[3], *answer[3]; /* select's sets: read, write, except */
    bool want_input, outside;       /* the console is asked; something the world can change is */
    bool joining;                   /* this check joins the queues */
    struct places *places;
};

static bool join(struct request *request, struct file *file, unsigned events) {
    struct places *places = request->places;
    if (!file->ops->queue) return true;
    if (!places || places->count == PLACES) {
        if (!(places = object_alloc(sizeof *places))) return false;
        places->next = request->places;
        request->places = places;
    }
    struct place_in_queue *place = &places->place[places->count++];
    place->file = file;
    file->uses++;
    place->waiter.thread = current;
    waiter_join(&place->waiter, file->ops->queue(file), events | WANTED_ALWAYS);
    return true;
}

static void leave_all(struct request *request) {
    for (struct places *places; (places = request->places);) {
        request->places = places->next;
        for (unsigned i = 0; i < places->count; i++) {
            waiter_leave(&places->place[i].waiter);
            file_drop(places->place[i].file);
        }
        object_free(places, sizeof *places);
    }
}

static unsigned ready(struct request *request, int fd, unsigned events) {
    struct file *file = file_get(fd);
    if (!file || !file->ops->poll) return file ? events & (POLLIN | POLLOUT) : POLLNVAL;
    if (file->ops == &console_ops && (events & POLLIN)) request->want_input = true;
    request->outside |= file->outside;
    if (request->joining && !join(request, file, events)) return POLLNVAL;
    unsigned now = file->ops->poll(file);
    if (now & POLLIN) now |= POLLRDNORM;
    if (now & POLLOUT) now |= POLLWRNORM;
    return now & (events | WANTED_ALWAYS);
}

static int check_poll(struct request *request) {
    int n = 0;
    if (!user_ok(request->fds, request->count * sizeof(struct pollfd), true)) return -EFAULT;
    for (unsigned i = 0; i < request->count; i++) {
        struct pollfd *p = (struct pollfd *)request->fds + i;
        p->revents = p->fd < 0 ? 0 : (short)ready(request, p->fd, (unsigned)(uint16_t)p->events);
        n += p->revents != 0;
    }
    return n;
}

static int check_select(struct request *request) {
    static const unsigned events[3] = {POLLIN, POLLOUT, POLLPRI};
    static const unsigned counts[3] = {POLLIN | POLLHUP | POLLERR, POLLOUT | POLLERR, POLLPRI};
    int n = 0;
    for (int set = 0; set < 3; set++) {
        if (!request->asked[set]) continue;
        for (unsigned i = 0; i < (request->count + 63) / 64; i++) request->answer[set][i] = 0;
        for (unsigned fd = 0; fd < request->count; fd++) {
            if (!(request->asked[set][fd / 64] >> (fd % 64) & 1)) continue;
            unsigned now = ready(request, (int)fd, events[set]);
            if (now & POLLNVAL) return -EBADF;
            if (!(now & counts[set])) continue;
            request->answer[set][fd / 64] |= 1ull << (fd % 64);
            n++;
        }
    }
    return n;
}

static long wait(struct request *request) {
    long n, error = 0;
    for (bool asked = false, joined = false;;) {
        n = request->check(request);
        joined |= request->joining;
        request->joining = false;
        if (n || error == -ERESTARTSYS) break;
        if (clock_now_still() < request->deadline) {
            request->joining = !joined;
            if (!joined) continue; /* hang in the queues, and look once more */
            error = thread_sleep(request->deadline, "a poll", request->outside);
        } else {
            bool look = request->want_input || (request->outside && exchange_is_stale());
            if (asked || !look) break;
            exchange(LS_EX_TIME, NEVER, request->want_input); /* is there anything by now? */
        }
        asked = true;
    }
    leave_all(request);
    return n ? n : error == -ERESTARTSYS ? -ERESTARTNOHAND : 0;
}

static long poll(uint64_t fds, unsigned count, uint64_t deadline) {
    if (count > FILES_MAX) return -EINVAL;
    struct request request = {.check = check_poll, .deadline = deadline, .fds = fds, .count = count};
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
    enum { WORDS = FILES_MAX / 64 };
    if (count < 0) return -EINVAL;
    if (count > FILES_MAX) count = FILES_MAX;
    size_t bytes = ((size_t)count + 63) / 64 * 8;
    uint64_t *words = object_alloc(6 * WORDS * sizeof *words);
    if (!words) return -ENOMEM;
    struct request request = {.check = check_select, .deadline = deadline, .count = (unsigned)count};
    long n = 0;
    for (int i = 0; i < 3 && !n; i++) {
        if (!sets[i]) continue;
        request.asked[i] = words + i * WORDS;
        request.answer[i] = words + (i + 3) * WORDS;
        n = copy_in(request.asked[i], sets[i], bytes);
    }
    if (!n) n = wait(&request);
    for (int i = 0; n >= 0 && i < 3; i++)
        if (sets[i] && copy_out(sets[i], request.answer[i], bytes)) n = -EFAULT;
    object_free(words, 6 * WORDS * sizeof *words);
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
