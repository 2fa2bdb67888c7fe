/*
 * Timers: a pairing heap of nodes that lie inside what they belong to. Setting a timer later
 * than it stands leaves it where it is: it then fires early, and its owner, who keeps the true
 * times, sets it again. So the usual case, an acknowledgement that moves a timeout away, is free.
 */
#include "stack.h"

static struct deadline *meld(struct deadline *a, struct deadline *b) {
    if (!a || !b) return a ? a : b;
    if (b->at < a->at) {
        struct deadline *swap = a;
        a = b, b = swap;
    }
    b->before = a; /* the parent of a first child, else the sibling to the left */
    b->next = a->child;
    if (a->child) a->child->before = b;
    a->child = b;
    return a;
}

static struct deadline *pair_up(struct deadline *list) {
    struct deadline *pairs = NULL;
    while (list) {
        struct deadline *a = list, *b = a->next;
        list = b ? b->next : NULL;
        a->next = a->before = NULL;
        if (b) b->next = b->before = NULL;
        a = meld(a, b);
        a->next = pairs;
        pairs = a;
    }
    struct deadline *whole = NULL;
    while (pairs) {
        struct deadline *next = pairs->next;
        pairs->next = NULL;
        whole = meld(whole, pairs);
        pairs = next;
    }
    return whole;
}

void deadline_cancel(struct deadline *it) {
    if (it->at == NEVER || !it->at) return;
    struct deadline *children = pair_up(it->child);
    if (it == net->timers) {
        net->timers = children;
    } else {
        if (it->before->child == it)
            it->before->child = it->next;
        else
            it->before->next = it->next;
        if (it->next) it->next->before = it->before;
        net->timers = meld(net->timers, children);
    }
    if (net->timers) net->timers->before = NULL;
    it->child = it->next = it->before = NULL;
    it->at = NEVER;
}

void deadline_set(struct deadline *it, uint64_t at) {
    if (at == NEVER) return; /* may fire once for nothing */
    if (it->at && it->at <= at) return;
    deadline_cancel(it);
    it->at = max_u64(at, 1);
    net->timers = meld(net->timers, it);
    net->timers->before = NULL;
}

uint64_t net_timer_due(void) { return net->timers ? net->timers->at : NEVER; }

void net_timers(void) {
    uint64_t now = net_now();
    while (net->timers && net->timers->at <= now) {
        struct deadline *it = net->timers;
        deadline_cancel(it);
        it->fire(it);
    }
    net_flush();
}
