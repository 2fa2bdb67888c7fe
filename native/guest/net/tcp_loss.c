/*
 * What is in flight and what is lost: RFC 6675 with SACK, NewReno (RFC 6582) without. A peer's
 * path that reorders is noticed when a retransmission proves unnecessary (Eifel, RFC 3522), the
 * window is given back (RFC 4015), and the next time more duplicates are waited for.
 */
#include "tcp.h"

/* Up to here everything that the peer does not have counts as lost. */
static uint64_t lost_edge(const struct tcp *t) {
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

bool tcp_hole(const struct tcp *t, uint64_t from, uint64_t *start, uint64_t *end) {
    return gap(t, from, lost_edge(t), start, end);
}

bool tcp_is_lost(const struct tcp *t) {
    if (t->una == t->nxt) return false;
    return t->sack_ok ? lost_edge(t) > t->una : t->dup_segments >= t->reorder;
}

uint64_t tcp_in_flight(const struct tcp *t) {
    uint64_t edge = lost_edge(t), bytes = 0, start, end;
    for (uint64_t at = t->una; gap(t, at, t->nxt, &start, &end); at = end) {
        if (start < edge) { /* lost: only what was sent again is on its way */
            uint64_t lost_end = min_u64(end, edge);
            if (t->high_rxt > start) bytes += min_u64(lost_end, t->high_rxt) - start;
            start = lost_end;
        }
        bytes += end - start;
    }
    uint64_t left = t->sack_ok ? 0 : (uint64_t)t->dup_segments * t->mss;
    return bytes > left ? bytes - left : 0;
}

void tcp_lose(struct tcp *t, enum tcp_recovery how) {
    if (!t->recovery) {
        tcp_cubic_save(t);
        t->undo_possible = t->timestamps_ok;
        t->first_rexmit_ts = tcp_timestamp(t);
    }
    if (how == RECOVERY_TIMEOUT) {
        if (t->retries <= 1 || t->recovery != RECOVERY_TIMEOUT) tcp_cubic_reduce(t);
        t->cwnd = t->mss;
        t->dup_segments = 0;
        if (t->retries > 1 && t->sacked) t->sacked->count = 0; /* the peer may have thrown it away */
    } else {
        tcp_cubic_reduce(t);
        t->cwnd = t->ssthresh;
        net->counters.fast_recoveries++;
    }
    t->recovery = how;
    t->recover = t->nxt;
    t->high_rxt = t->una;
    t->rexmit_edge = t->nxt;
    t->rtt_seq = 0;
    tcp_want_output(t);
}
