/*
 * How wide the window is on the loopback, and where a program asks for it: CUBIC (RFC 9438), in
 * whole numbers. After a loss the window grows along a cubic of the time since, flat around where
 * the loss was, and never slower than Reno's would.
 * Windows are bytes, times milliseconds; beta is 7/10 and C 4/10 of a segment per cubic second.
 */
#include "tcp.h"

#define CUBE_MS_MAX 40000 /* keeps the cube, times 4 and a segment, within 63 bits */

static uint32_t cube_root(uint64_t x) {
    uint64_t low = 0, high = 1u << 21;
    while (high - low > 1) {
        uint64_t middle = (low + high) / 2;
        if (middle * middle * middle <= x)
            low = middle;
        else
            high = middle;
    }
    return (uint32_t)low;
}

void tcp_cubic_start(struct tcp *t) {
    t->cwnd = 10 * t->mss; /* RFC 6928 */
    t->ssthresh = 1u << 30;
}

/* The half that a loss takes away, 3/10 here. Who lost before the last height was reached makes room. */
void tcp_cubic_reduce(struct tcp *t) {
    uint32_t held = (uint32_t)min_u64(t->nxt - t->una, t->cwnd);
    t->cubic_top = held < t->cubic_top ? (uint32_t)(held * 17ull / 20) : held;
    t->cubic_prior = held;
    t->cubic_since = 0;
    t->ssthresh = (uint32_t)max_u64(held * 7ull / 10, 2 * t->mss);
}

static void begin(struct tcp *t) {
    t->cubic_since = net_now();
    t->cubic_reno = t->cwnd;
    t->cubic_top = (uint32_t)max_u64(t->cubic_top, t->cwnd);
    t->cubic_top_ms = cube_root((t->cubic_top - t->cwnd) * 2500000000ull / t->mss);
}

static uint64_t cubic_at(const struct tcp *t, uint64_t ms) {
    int64_t from_top = (int64_t)min_u64(ms, CUBE_MS_MAX) - (int64_t)min_u64(t->cubic_top_ms, CUBE_MS_MAX);
    int64_t bytes = from_top * from_top * from_top * 4 * (int64_t)t->mss / 10000000000 + t->cubic_top;
    return bytes > 0 ? (uint64_t)bytes : 0;
}

static void avoid_congestion(struct tcp *t, uint64_t acked) {
    if (!t->cubic_since) begin(t);
    uint64_t ms = (net_now() - t->cubic_since) / MS, cwnd = t->cwnd;
    acked = min_u64(acked, cwnd);
    /* Reno's sawtooth with this beta has a slope of 9/17 up to where the loss was, and 1 beyond. */
    uint64_t gain = acked * t->mss / cwnd;
    t->cubic_reno += (uint32_t)(t->cubic_reno < t->cubic_prior ? gain * 9 / 17 : gain);
    t->cubic_reno = (uint32_t)min_u64(t->cubic_reno, CWND_MAX);
    if (cubic_at(t, ms) < t->cubic_reno) {
        t->cwnd = (uint32_t)max_u64(cwnd, t->cubic_reno);
        return;
    }
    uint64_t target = min_u64(max_u64(cubic_at(t, ms + t->srtt / MS), cwnd), cwnd + cwnd / 2);
    t->cwnd = (uint32_t)min_u64(cwnd + (target - cwnd) * acked / cwnd, CWND_MAX);
}

void tcp_cubic_grow(struct tcp *t, uint64_t acked) {
    if (t->recovery == RECOVERY_FAST) return;
    if (!t->cwnd_limited) {
        t->cubic_since = 0; /* time in which the window was not the limit says nothing (RFC 9438, 5.8) */
        return;
    }
    if (t->cwnd < t->ssthresh)
        t->cwnd = (uint32_t)min_u64(t->cwnd + acked, CWND_MAX);
    else
        avoid_congestion(t, acked);
    if (t->nxt - t->una < t->cwnd / 2) t->cwnd_limited = false;
}

void tcp_cubic_save(struct tcp *t) {
    t->undo_cwnd = t->cwnd;
    t->undo_ssthresh = t->ssthresh;
    t->undo_top = t->cubic_top;
}

void tcp_cubic_undo(struct tcp *t) {
    t->cwnd = (uint32_t)max_u64(t->cwnd, t->undo_cwnd);
    t->ssthresh = (uint32_t)max_u64(t->ssthresh, t->undo_ssthresh);
    t->cubic_top = t->undo_top;
    t->cubic_since = 0;
}
