/* Alarms in a pairing heap: the earliest at the root, setting and cancelling cheap. */
#include "thread.h"

static struct alarm *root;
static uint64_t order;

static bool earlier(const struct alarm *a, const struct alarm *b) {
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static struct alarm *join(struct alarm *a, struct alarm *b) {
    if (!a || !b) return a ? a : b;
    if (earlier(b, a)) {
        struct alarm *swap = a;
        a = b;
        b = swap;
    }
    b->sibling = a->child;
    if (b->sibling) b->sibling->previous = b;
    b->previous = a;
    a->child = b;
    return a;
}

/* Pairs from left to right, then all from right to left; a loop, because the kernel stack is small. */
static struct alarm *join_children(struct alarm *first) {
    struct alarm *pairs = NULL, *whole = NULL;
    while (first) {
        struct alarm *a = first, *b = a->sibling;
        first = b ? b->sibling : NULL;
        a->sibling = a->previous = NULL;
        if (b) b->sibling = b->previous = NULL;
        a = join(a, b);
        a->sibling = pairs;
        pairs = a;
    }
    while (pairs) {
        struct alarm *next = pairs->sibling;
        pairs->sibling = NULL;
        whole = join(whole, pairs);
        pairs = next;
    }
    return whole;
}

static bool always; /* input may come for a sleeper */

static void publish(void) {
    port->timer_due_ns = always ? min_u64(alarm_due(), clock_now_still()) : alarm_due();
}

void alarm_publish(bool as_due) {
    always = as_due;
    publish();
}

static void changed(void) {
    if (root) root->previous = root->sibling = NULL;
    publish();
}

void alarm_cancel(struct alarm *alarm) {
    if (!alarm->set) return;
    alarm->set = false;
    struct alarm *below = join_children(alarm->child);
    if (alarm == root) {
        root = below;
    } else {
        if (alarm->previous->child == alarm)
            alarm->previous->child = alarm->sibling;
        else
            alarm->previous->sibling = alarm->sibling;
        if (alarm->sibling) alarm->sibling->previous = alarm->previous;
        root = join(root, below);
    }
    alarm->child = alarm->sibling = alarm->previous = NULL;
    changed();
}

void alarm_set(struct alarm *alarm, uint64_t at_ns) {
    alarm_cancel(alarm);
    if (at_ns == NEVER) return;
    alarm->at = at_ns;
    alarm->order = order++;
    alarm->set = true;
    root = join(root, alarm);
    changed();
}

uint64_t alarm_due(void) { return root ? root->at : NEVER; }

void alarms_ring(void) {
    uint64_t now = clock_now_still(), last = order; /* one that sets itself anew waits for the next time */
    while (root && root->at <= now && root->order < last) {
        struct alarm *alarm = root;
        alarm_cancel(alarm);
        alarm->ring(alarm);
    }
}
