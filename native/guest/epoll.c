/*
 * epoll: an item hangs in the queue of the file it watches and, when woken, in the list of what
 * may be ready. Waiting looks at that list only, however many files are watched.
 */
#include "file.h"
#include <linux/eventpoll.h>

#define BUCKETS 64u
#define DEPTH_MAX 5
#define OPTIONS (EPOLLET | EPOLLONESHOT | EPOLLWAKEUP | EPOLLEXCLUSIVE)

struct epoll_item {
    struct waiter waiter; /* first: the queue's callback gets it */
    struct epoll *epoll;
    struct file *file;
    struct epoll_item *next_in_bucket, *next_of_file;
    struct epoll_item *next_ready, *previous_ready;
    int fd;
    bool listed;
    uint32_t events; /* as asked for; 0 beside the options: a oneshot that fired */
    uint64_t data;
};
struct epoll {
    struct epoll_item *bucket[BUCKETS], *first_ready, *last_ready;
    struct wait_queue queue;
    unsigned outside; /* items that the world can make ready */
};
static const struct file_ops epoll_ops;

static void list(struct epoll_item *item) {
    struct epoll *epoll = item->epoll;
    if (item->listed) return;
    item->listed = true;
    item->next_ready = NULL;
    item->previous_ready = epoll->last_ready;
    if (epoll->last_ready)
        epoll->last_ready->next_ready = item;
    else
        epoll->first_ready = item;
    epoll->last_ready = item;
}

static void unlist(struct epoll_item *item) {
    struct epoll *epoll = item->epoll;
    if (!item->listed) return;
    item->listed = false;
    if (item->previous_ready)
        item->previous_ready->next_ready = item->next_ready;
    else
        epoll->first_ready = item->next_ready;
    if (item->next_ready)
        item->next_ready->previous_ready = item->previous_ready;
    else
        epoll->last_ready = item->previous_ready;
}

static void woken(struct waiter *waiter) {
    struct epoll_item *item = (struct epoll_item *)waiter;
    list(item);
    queue_wake(&item->epoll->queue, POLLIN);
}

static unsigned ready(const struct epoll_item *item) {
    if (!(item->events & ~OPTIONS)) return 0;
    unsigned now = item->file->ops->poll(item->file);
    if (now & POLLIN) now |= POLLRDNORM;
    if (now & POLLOUT) now |= POLLWRNORM;
    return now & ((item->events & ~OPTIONS) | POLLERR | POLLHUP);
}

/* ---- items ------------------------------------------------------------------------------ */
static struct epoll_item **slot(struct epoll *epoll, int fd, const struct file *file) {
    struct epoll_item **at = &epoll->bucket[(unsigned)fd % BUCKETS];
    while (*at && ((*at)->fd != fd || (*at)->file != file)) at = &(*at)->next_in_bucket;
    return at;
}

/* From now on changes count; what holds already counts as well. */
static void arm(struct epoll_item *item, const struct epoll_event *event) {
    waiter_leave(&item->waiter);
    item->events = event->events;
    item->data = event->data;
    waiter_join(&item->waiter, item->file->ops->queue(item->file),
                (item->events & ~OPTIONS) | POLLERR | POLLHUP);
    if (ready(item)) woken(&item->waiter);
}

static void remove(struct epoll_item *item) {
    struct epoll_item **at = slot(item->epoll, item->fd, item->file);
    *at = item->next_in_bucket;
    for (at = &item->file->watches; *at != item;) at = &(*at)->next_of_file;
    *at = item->next_of_file;
    unlist(item);
    waiter_leave(&item->waiter);
    item->epoll->outside -= item->file->outside;
    object_free(item, sizeof *item);
}

void epoll_forget(struct file *file) {
    while (file->watches) remove(file->watches);
}

static bool contains(struct file *file, const struct epoll *epoll, int depth) {
    struct epoll *inner = file->data;
    if (file->ops != &epoll_ops) return false;
    if (inner == epoll || depth == DEPTH_MAX) return true;
    for (unsigned i = 0; i < BUCKETS; i++)
        for (struct epoll_item *item = inner->bucket[i]; item; item = item->next_in_bucket)
            if (contains(item->file, epoll, depth + 1)) return true;
    return false;
}

static long add(struct epoll *epoll, int fd, struct file *file, const struct epoll_event *event) {
    if (!file->ops->queue) return -EPERM;
    if (contains(file, epoll, 0)) return -ELOOP;
    struct epoll_item *item = object_alloc(sizeof *item);
    if (!item) return -ENOMEM;
    *item = (struct epoll_item){.waiter = {.woken = woken}, .epoll = epoll, .file = file, .fd = fd};
    *slot(epoll, fd, file) = item;
    item->next_of_file = file->watches;
    file->watches = item;
    epoll->outside += file->outside;
    arm(item, event);
    return 0;
}

long sys_epoll_ctl(int epfd, int operation, int fd, uint64_t from) {
    struct file *outer = file_get(epfd), *file = file_get(fd);
    struct epoll_event event = {0};
    if (operation != EPOLL_CTL_DEL && copy_in(&event, from, sizeof event)) return -EFAULT;
    if (!outer || !file) return -EBADF;
    if (outer->ops != &epoll_ops || outer == file) return -EINVAL;
    struct epoll_item *item = *slot(outer->data, fd, file);
    switch (operation) {
    case EPOLL_CTL_ADD: return item ? -EEXIST : add(outer->data, fd, file, &event);
    case EPOLL_CTL_DEL:
        if (item) remove(item);
        return item ? 0 : -ENOENT;
    case EPOLL_CTL_MOD:
        if (item) arm(item, &event);
        return item ? 0 : -ENOENT;
    default: return -EINVAL;
    }
}

/* ---- waiting ------------------------------------------------------------------------------- */
static int collect(struct epoll *epoll, struct epoll_event *to, int room) {
    int n = 0;
    struct epoll_item *last = epoll->last_ready, *item = epoll->first_ready, *next;
    for (bool more = item; more && n < room; item = next) {
        next = item->next_ready;
        more = item != last;
        unlist(item);
        unsigned now = ready(item);
        if (!now) continue;
        to[n++] = (struct epoll_event){now, item->data};
        if (item->events & EPOLLONESHOT)
            item->events &= OPTIONS;
        else if (!(item->events & EPOLLET))
            list(item); /* level: looked at again next time */
    }
    return n;
}

static long wait(int epfd, uint64_t to, int room, uint64_t deadline) {
    struct file *file = file_get(epfd);
    long n = 0, error = 0;
    if (!file) return -EBADF;
    if (file->ops != &epoll_ops || room <= 0 || room > (int)(INT32_MAX / sizeof(struct epoll_event)))
        return -EINVAL;
    struct epoll *epoll = file->data;
    file->uses++;
    for (bool asked = false;;) {
        uint64_t span = user_span(to, (uint64_t)room * sizeof(struct epoll_event), true);
        n = span < sizeof(struct epoll_event)
                ? -EFAULT
                : collect(epoll, (void *)to, (int)(span / sizeof(struct epoll_event)));
        if (n || error == -ERESTARTSYS) break;
        if (clock_now_still() >= deadline) {
            if (asked || !epoll->outside || (deadline == 0 && !exchange_is_stale())) break;
            exchange(LS_EX_TIME, NEVER, false); /* is there anything by now? */
        } else {
            error = queue_sleep(&epoll->queue, POLLIN, deadline, "an epoll", epoll->outside);
        }
        asked = true;
    }
    file_drop(file);
    return n ? n : error == -ERESTARTSYS ? -EINTR : 0;
}

long sys_epoll_wait(int epfd, uint64_t to, int room, int timeout_ms) {
    uint64_t deadline = timeout_ms < 0 ? NEVER
                        : timeout_ms   ? clock_now() + (uint64_t)timeout_ms * 1000000
                                       : 0;
    return wait(epfd, to, room, deadline);
}

static long set_mask(uint64_t mask, uint64_t bytes) {
    uint64_t set;
    if (!mask) return 0;
    if (bytes != 8) return -EINVAL;
    if (copy_in(&set, mask, sizeof set)) return -EFAULT;
    signal_set_temporary_mask(set);
    return 0;
}

long sys_epoll_pwait(int epfd, uint64_t to, int room, int timeout_ms, uint64_t mask, uint64_t bytes) {
    return set_mask(mask, bytes) ?: sys_epoll_wait(epfd, to, room, timeout_ms);
}

long sys_epoll_pwait2(int epfd, uint64_t to, int room, uint64_t timeout, uint64_t mask, uint64_t bytes) {
    uint64_t ns = 0;
    if (timeout && !ns_from_timespec(timeout, &ns)) return -EINVAL;
    return set_mask(mask, bytes) ?: wait(epfd, to, room, !timeout ? NEVER : ns ? clock_now() + ns : 0);
}

/* ---- as a file -------------------------------------------------------------------------------- */
static unsigned epoll_poll(struct file *file) {
    for (struct epoll_item *item = ((struct epoll *)file->data)->first_ready; item; item = item->next_ready)
        if (ready(item)) return POLLIN;
    return 0;
}

static void epoll_close(struct file *file) {
    struct epoll *epoll = file->data;
    for (unsigned i = 0; i < BUCKETS; i++)
        while (epoll->bucket[i]) remove(epoll->bucket[i]);
    object_free(epoll, sizeof *epoll);
}

static struct wait_queue *epoll_queue(struct file *file) { return &((struct epoll *)file->data)->queue; }

static const struct file_ops epoll_ops = {
    .poll = epoll_poll, .close = epoll_close, .queue = epoll_queue, .outside = true, .name = "an epoll"};

long sys_epoll_create1(unsigned flags) {
    if (flags & ~(unsigned)EPOLL_CLOEXEC) return -EINVAL;
    struct epoll *epoll = object_alloc(sizeof *epoll);
    return epoll ? anonymous_descriptor(&epoll_ops, epoll, flags) : -ENOMEM;
}

long sys_epoll_create(int size) { return size > 0 ? sys_epoll_create1(0) : -EINVAL; }
