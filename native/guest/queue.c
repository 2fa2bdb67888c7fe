/* Wait queues: who wants to know when something changes, in the order of asking. */
#include "file.h"

void waiter_join(struct waiter *waiter, struct wait_queue *queue, uint32_t events) {
    waiter->queue = queue;
    waiter->events = events;
    waiter->next = NULL;
    waiter->previous = queue->last;
    if (queue->last)
        queue->last->next = waiter;
    else
        queue->first = waiter;
    queue->last = waiter;
}

void waiter_leave(struct waiter *waiter) {
    struct wait_queue *queue = waiter->queue;
    if (!queue) return;
    if (waiter->previous)
        waiter->previous->next = waiter->next;
    else
        queue->first = waiter->next;
    if (waiter->next)
        waiter->next->previous = waiter->previous;
    else
        queue->last = waiter->previous;
    waiter->queue = NULL;
}

void queue_wake(struct wait_queue *queue, uint32_t events) {
    for (struct waiter *waiter = queue->first; waiter; waiter = waiter->next) {
        if (!(waiter->events & events)) continue;
        if (waiter->woken)
            waiter->woken(waiter);
        else
            thread_wake(waiter->thread);
    }
}

bool queue_wanted(const struct wait_queue *queue, uint32_t events) {
    for (const struct waiter *waiter = queue->first; waiter; waiter = waiter->next)
        if (waiter->events & events) return true;
    return false;
}

long queue_sleep(struct wait_queue *queue, uint32_t events, uint64_t deadline, const char *what,
                 bool outside) {
    struct waiter waiter = {.thread = current};
    waiter_join(&waiter, queue, events);
    long error = thread_sleep(deadline, what, outside);
    waiter_leave(&waiter);
    return error;
}

long file_sleep(struct file *file, unsigned events, uint64_t deadline) {
    assert(file->ops->queue);
    return queue_sleep(file->ops->queue(file), events | POLLERR | POLLHUP, deadline, file->ops->name,
                       file->outside);
}
