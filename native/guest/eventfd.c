/* Descriptors that count: eventfd, timerfd. And signalfd, which reads what is pending. */
#include "file.h"
#include <linux/signalfd.h>

/* ---- descriptors without a name ------------------------------------------------------- */
long anonymous_descriptor(const struct file_ops *ops, void *data, uint32_t flags) {
    static struct inode *inode;
    if (!inode) {
        if (!(inode = inode_new(S_IFREG | 0600))) return -ENOMEM;
        inode_use(inode);
    }
    struct file *file = file_new(ops, inode, O_RDWR | (flags & O_NONBLOCK));
    if (!file) return -ENOMEM;
    file->data = data;
    return descriptor_new(file, 0, flags & O_CLOEXEC); /* closes the file, and so frees data, on failure */
}

/* ---- eventfd ---------------------------------------------------------------------------- */
#define EFD_SEMAPHORE 1u
#define COUNT_MAX (~0ull - 1)
struct event {
    uint64_t count;
    bool semaphore;
    struct wait_queue queue;
};

static long event_read(struct file *file, void *to, size_t bytes, uint64_t *offset) {
    struct event *event = file->data;
    (void)offset;
    if (bytes < 8) return -EINVAL;
    if (!event->count) return -EAGAIN;
    uint64_t value = event->semaphore ? 1 : event->count;
    event->count -= value;
    memcpy(to, &value, 8);
    queue_wake(&event->queue, POLLOUT);
    return 8;
}

static long event_write(struct file *file, const void *from, size_t bytes, uint64_t *offset) {
    struct event *event = file->data;
    uint64_t value;
    (void)offset;
    if (bytes < 8) return -EINVAL;
    memcpy(&value, from, 8);
    if (value == ~0ull) return -EINVAL;
    if (value > COUNT_MAX - event->count) return -EAGAIN;
    event->count += value;
    queue_wake(&event->queue, POLLIN);
    return (long)bytes;
}

static unsigned event_poll(struct file *file) {
    struct event *event = file->data;
    return (event->count ? POLLIN : 0u) | (event->count < COUNT_MAX ? POLLOUT : 0u);
}

static void event_close(struct file *file) { object_free(file->data, sizeof(struct event)); }
static struct wait_queue *event_queue(struct file *file) { return &((struct event *)file->data)->queue; }

static const struct file_ops event_ops = {.read = event_read,
                                          .write = event_write,
                                          .poll = event_poll,
                                          .close = event_close,
                                          .queue = event_queue,
                                          .name = "an eventfd"};

long sys_eventfd2(unsigned first, unsigned flags) {
    if (flags & ~(EFD_SEMAPHORE | O_NONBLOCK | O_CLOEXEC)) return -EINVAL;
    struct event *event = object_alloc(sizeof *event);
    if (!event) return -ENOMEM;
    event->count = first;
    event->semaphore = flags & EFD_SEMAPHORE;
    return anonymous_descriptor(&event_ops, event, flags);
}

long sys_eventfd(unsigned first) { return sys_eventfd2(first, 0); }

/* ---- timerfd ------------------------------------------------------------------------------ */
struct clock_file {
    struct interval interval;
    struct wait_queue queue;
    int clock;
};

static void clock_file_expired(struct interval *interval) {
    queue_wake(&((struct clock_file *)interval)->queue, POLLIN);
}

static long clock_file_read(struct file *file, void *to, size_t bytes, uint64_t *offset) {
    struct clock_file *timer = file->data;
    (void)offset;
    if (bytes < 8) return -EINVAL;
    if (!timer->interval.count) return -EAGAIN;
    memcpy(to, &timer->interval.count, 8);
    timer->interval.count = 0;
    return 8;
}

static unsigned clock_file_poll(struct file *file) {
    return ((struct clock_file *)file->data)->interval.count ? POLLIN : 0;
}

static void clock_file_close(struct file *file) {
    struct clock_file *timer = file->data;
    alarm_cancel(&timer->interval.alarm);
    object_free(timer, sizeof *timer);
}

static struct wait_queue *clock_file_queue(struct file *file) {
    return &((struct clock_file *)file->data)->queue;
}

static const struct file_ops clock_file_ops = {.read = clock_file_read,
                                               .poll = clock_file_poll,
                                               .close = clock_file_close,
                                               .queue = clock_file_queue,
                                               .name = "a timerfd"};

long sys_timerfd_create(int clock, unsigned flags) {
    if (!clock_is_known(clock) || clock < 0 || (flags & ~(unsigned)(O_NONBLOCK | O_CLOEXEC))) return -EINVAL;
    struct clock_file *timer = object_alloc(sizeof *timer);
    if (!timer) return -ENOMEM;
    timer->clock = clock;
    timer->interval.expired = clock_file_expired;
    return anonymous_descriptor(&clock_file_ops, timer, flags);
}

static long clock_file_get(int fd, struct clock_file **timer) {
    struct file *file = file_get(fd);
    if (!file) return -EBADF;
    *timer = file->data;
    return file->ops == &clock_file_ops ? 0 : -EINVAL;
}

long sys_timerfd_settime(int fd, unsigned flags, uint64_t new, uint64_t old) {
    struct clock_file *timer;
    long error = clock_file_get(fd, &timer);
    if (error) return error;
    if (flags & ~3u) return -EINVAL; /* TFD_TIMER_ABSTIME; the clock is never set, so nothing cancels */
    if (old && interval_to_program(&timer->interval, old)) return -EFAULT;
    return interval_from_program(&timer->interval, timer->clock, flags & 1, new);
}

long sys_timerfd_gettime(int fd, uint64_t to) {
    struct clock_file *timer;
    long error = clock_file_get(fd, &timer);
    return error ? error : interval_to_program(&timer->interval, to);
}

/* ---- signalfd -------------------------------------------------------------------------------- */
static long signal_file_read(struct file *file, void *to, size_t bytes, uint64_t *offset) {
    uint64_t set = *(uint64_t *)file->data;
    size_t done = 0;
    siginfo_t info;
    (void)offset;
    if (bytes < sizeof(struct signalfd_siginfo)) return -EINVAL;
    for (; bytes - done >= sizeof(struct signalfd_siginfo) && signal_take(set, &info);
         done += sizeof(struct signalfd_siginfo)) {
        struct signalfd_siginfo out = {.ssi_signo = (uint32_t)info.si_signo,
                                       .ssi_errno = info.si_errno,
                                       .ssi_code = info.si_code,
                                       .ssi_pid = (uint32_t)info.si_pid,
                                       .ssi_uid = info.si_uid};
        if (info.si_code == SI_TIMER) {
            out.ssi_pid = out.ssi_uid = 0;
            out.ssi_tid = (uint32_t)info.si_tid;
            out.ssi_overrun = (uint32_t)info.si_overrun;
        }
        out.ssi_int = info.si_int;
        out.ssi_ptr = (uint64_t)info.si_ptr;
        memcpy((uint8_t *)to + done, &out, sizeof out);
    }
    return done ? (long)done : -EAGAIN;
}

static unsigned signal_file_poll(struct file *file) {
    return signal_pending() & *(uint64_t *)file->data ? POLLIN : 0;
}

static void signal_file_close(struct file *file) { object_free(file->data, 8); }
static struct wait_queue *signal_file_queue(struct file *file) {
    (void)file;
    return &signals.queue;
}

static const struct file_ops signal_file_ops = {.read = signal_file_read,
                                                .poll = signal_file_poll,
                                                .close = signal_file_close,
                                                .queue = signal_file_queue,
                                                .outside = true,
                                                .name = "a signalfd"};

long sys_signalfd4(int fd, uint64_t set, uint64_t size, unsigned flags) {
    uint64_t mask;
    struct file *file = file_get(fd);
    if (size != 8 || (flags & ~(unsigned)(O_NONBLOCK | O_CLOEXEC))) return -EINVAL;
    if (copy_in(&mask, set, sizeof mask)) return -EFAULT;
    mask &= ~(signal_bit(SIGKILL) | signal_bit(SIGSTOP));
    if (fd != -1) {
        if (!file) return -EBADF;
        if (file->ops != &signal_file_ops) return -EINVAL;
        *(uint64_t *)file->data = mask;
        queue_wake(&signals.queue, POLLIN);
        return fd;
    }
    uint64_t *data = object_alloc(sizeof *data);
    if (!data) return -ENOMEM;
    *data = mask;
    return anonymous_descriptor(&signal_file_ops, data, flags);
}

long sys_signalfd(int fd, uint64_t set, uint64_t size) { return sys_signalfd4(fd, set, size, 0); }
