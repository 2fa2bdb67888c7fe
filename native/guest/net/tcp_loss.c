/*
 * What is in flight and what is lost: RFC 6675 with SACK, NewReno (RFC 6582) without. Each
 * retransmission is remembered until it arrives, or until what was sent after it has. A peer's
 * path that reorders is noticed when a retransmission proves unnecessary (Eifel, RFC 3522), the
 * window is given back (RFC 4015), and the next time more duplicates are waited for.
 */
#include "tcp.h"

/* Up to here everything that the peer does not have counts as lost. */
uint64_t tcp_lost_edge(const struct tcp *t) {
    if (t->recovery == RECOVERY_TIMEOUT) return t->recover;
    if (!t->sack_ok) return t->recovery ? min_u64(t->una + t->mss, t->nxt) : t->una;
    uint64_t above = 0, needed = (uint64_t)t->reorder * t->mss - t->mss + 1;
    for (unsigned i = t->sacked ? (unsigned)t->sacked->count : 0; i-- > 0;) {
        above += t->sacked->range[i].end - t->sacked->range[i].start;
        if (above >= needed) return t->sacked->range[i].start;
    }
    /* RFC 6675 (5): in recovery the first segment is lost whatever the counts say by now. */
    return t->recovery ? min_u64(t->una + t->mss, t->nxt) : t->una;
}

/* The next stretch from `from` on, below what was sent, that the peer does not report to have. */
static bool gap(const struct tcp *t, uint64_t from, uint64_t below, uint64_t *start, uint64_t *end) {
    from = max_u64(from, t->una);
    *end = below;
    for (unsigned i = 0; t->sacked && i < t->sacked->count; i++) {
        const struct range *r = &t->sacked->range[i];
        if (r->end <= from) continue;
        if (r->start <= from) {
            from = r->end;
            continue;
        }
        *end = min_u64(below, r->start);
        break;
    }
    *start = from;
    return from < *end;
}

/* What was sent again and is not known to have arrived; the rest below the lost edge waits to be. */
static const struct resent_range *resent_after(const struct tcp *t, uint64_t at) {
    for (unsigned i = 0; t->resent && i < t->resent->count; i++)
        if (t->resent->range[i].end > at) return &t->resent->range[i];
    return NULL;
}

/* The first stretch that is lost and was not sent again since. */
bool tcp_hole(const struct tcp *t, uint64_t *start, uint64_t *end) {
    uint64_t edge = tcp_lost_edge(t), gap_end;
    for (uint64_t at = t->una; gap(t, at, edge, start, &gap_end);) {
        const struct resent_range *r = resent_after(t, *start);
        *end = r ? min_u64(gap_end, r->start) : gap_end;
        if (*start < *end) return true;
        at = r->end;
    }
    return false;
}

/* False: no room to remember it, so it must not be sent now. */
bool tcp_note_resent(struct tcp *t, uint64_t start, uint64_t end) {
    if (!t->resent && !(t->resent = object_alloc(sizeof *t->resent))) return false;
    struct resent *set = t->resent;
    unsigned at = 0;
    while (at < set->count && set->range[at].start < start) at++;
    if (at && set->range[at - 1].end == start && set->range[at - 1].edge == t->nxt) {
        set->range[at - 1].end = end;
        return true;
    }
    if (set->count == RESENT_MAX) return false;
    memmove(set->range + at + 1, set->range + at, (set->count - at) * sizeof *set->range);
    set->range[at] = (struct resent_range){start, end, t->nxt};
    set->count++;
    return true;
}

void tcp_forget_resent(struct tcp *t) {
    if (t->resent) object_free(t->resent, sizeof *t->resent);
    t->resent = NULL;
}

static void keep_resent(struct tcp *t, unsigned count) {
    if (t->resent) t->resent->count = count;
    if (!count) tcp_forget_resent(t);
}

/* Takes out what arrived from `start` to `end`. */
void tcp_resent_arrived(struct tcp *t, uint64_t start, uint64_t end) {
    unsigned kept = 0;
    for (unsigned i = 0; t->resent && i < t->resent->count; i++) {
        struct resent_range r = t->resent->range[i];
        if (start <= r.start && end > r.start)
            r.start = min_u64(end, r.end);
        else if (start < r.end && end >= r.end)
            r.end = start;
        if (r.start < r.end) t->resent->range[kept++] = r;
    }
    keep_resent(t, kept);
}

/* A retransmission was itself lost when what was sent after it has arrived. */
void tcp_lose_resent(struct tcp *t) {
    unsigned kept = 0;
    for (unsigned i = 0; t->resent && i < t->resent->count; i++) {
        const struct resent_range r = t->resent->range[i];
        if (ranges_bytes(t->sacked, r.edge) < (uint64_t)t->reorder * t->mss) t->resent->range[kept++] = r;
    }
    keep_resent(t, kept);
}

bool tcp_is_lost(const struct tcp *t) {
    if (t->una == t->nxt) return false;
    return t->sack_ok ? tcp_lost_edge(t) > t->una : t->dup_segments >= t->reorder;
}

uint64_t tcp_in_flight(const struct tcp *t) {
    uint64_t edge = tcp_lost_edge(t), bytes = t->nxt - edge - ranges_bytes(t->sacked, edge);
    for (unsigned i = 0; t->resent && i < t->resent->count; i++)
        bytes += t->resent->range[i].end - t->resent->range[i].start;
    uint64_t left = t->sack_ok ? 0 : (uint64_t)t->dup_segments * t->mss;
    return bytes > left ? bytes - left : 0;
}

void tcp_lose(struct tcp *t, enum tcp_recovery how) {
    if (!t->recovery) {
        t->undo_possible = t->timestamps_ok && !t->resent;
        t->first_rexmit_ts = tcp_timestamp(t);
    }
    if (how == RECOVERY_TIMEOUT) {
        t->dup_segments = 0;
        tcp_forget_resent(t);
        if (t->retries > 1 && t->sacked) t->sacked->count = 0; /* the peer may have thrown it away */
    } else {
        net->counters.fast_recoveries++;
    }
    tcp_congestion_lose(t, how == RECOVERY_TIMEOUT);
    t->recovery = how;
    t->recover = t->nxt;
    t->rtt_seq = 0;
    tcp_want_output(t);
}
