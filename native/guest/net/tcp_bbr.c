/*
 * How much may be out, and how fast it leaves, on a path through the card: BBR, version 1
 * (draft-cardwell-iccrg-bbr-congestion-control-00). A model of the path, its bandwidth (the most
 * of ten round trips) and its shortest round trip (of ten seconds), says both. A loss alone
 * changes neither, so a path that loses a packet in a hundred is still used.
 *
 * Bandwidths are bytes a second, gains in 256ths.
 */
#include "tcp.h"

#define UNIT 256u
#define GAIN_HIGH 739u /* 2 / ln 2: doubles each round trip */
#define GAIN_DRAIN 88u
#define GAIN_WINDOW 512u
#define BANDWIDTH_MAX 100000000000ull
#define ROUND_TRIP_AGE (10 * NS_PER_SECOND)
#define PROBE_TIME (200 * MS)
#define WINDOW_LEAST 4u  /* segments */
#define QUANTUM (1 * MS) /* leaves at once: every time that the machine wakes for costs an exit */
#define QUANTUM_MOST 65536u

static const uint16_t cycle[BBR_PHASES] = {320, 192, UNIT, UNIT, UNIT, UNIT, UNIT, UNIT};

void tcp_bbr_start(struct tcp *t) {
    t->cwnd = 10 * t->mss; /* RFC 6928 */
    t->bbr = (struct bbr){.mode = BBR_STARTUP};
}

static uint64_t bandwidth(const struct bbr *b) {
    uint64_t most = 0;
    for (unsigned i = 0; i < BBR_ROUNDS; i++) most = max_u64(most, b->most[i]);
    return most;
}

static uint64_t window_for(const struct tcp *t, unsigned gain) {
    const struct bbr *b = &t->bbr;
    if (!b->round_trip) return 10ull * t->mss;
    return bandwidth(b) * (b->round_trip / 1000) / 1000000 * gain / UNIT;
}

static unsigned pacing_gain(const struct bbr *b) {
    switch (b->mode) {
    case BBR_STARTUP: return GAIN_HIGH;
    case BBR_DRAIN: return GAIN_DRAIN;
    case BBR_PROBE_BANDWIDTH: return cycle[b->phase];
    default: return UNIT;
    }
}

/* ---- pacing -------------------------------------------------------------------------------- */
static void set_pace(struct tcp *t) {
    struct bbr *b = &t->bbr;
    uint64_t rate = bandwidth(b) * pacing_gain(b) / UNIT;
    rate -= rate / 100; /* queues that were built drain */
    if (!rate) rate = 10ull * t->mss * GAIN_HIGH / UNIT * NS_PER_SECOND / max_u64(t->srtt, MS);
    if (b->filled || rate > b->pace) b->pace = max_u64(rate, t->mss);
}

/* May a segment leave now? If not, the connection's timer says when. */
bool tcp_bbr_may_send(struct tcp *t) {
    struct bbr *b = &t->bbr;
    uint64_t now = net_now();
    if (!t->use_bbr) return true;
    if (b->waits && now < b->next_at) return false;
    b->waits = b->next_at > now + QUANTUM;
    return !b->waits;
}

void tcp_bbr_sent(struct tcp *t, uint64_t bytes) {
    struct bbr *b = &t->bbr;
    uint64_t now = net_now();
    if (!t->use_bbr) return;
    if (!b->pace) set_pace(t);
    /* Who woke late may catch up a little. */
    b->next_at = max_u64(b->next_at, now - min_u64(now, QUANTUM)) + bytes * NS_PER_SECOND / b->pace;
}

uint64_t tcp_bbr_wakes_at(const struct tcp *t) { return t->use_bbr && t->bbr.waits ? t->bbr.next_at : NEVER; }

/* ---- the model ------------------------------------------------------------------------------- */
static bool take_bandwidth(struct tcp *t, const struct rate_sample *s) {
    struct bbr *b = &t->bbr;
    bool new_round = s->prior_delivered >= b->round_ends;
    if (new_round) {
        b->round_ends = t->delivered;
        b->conserve = false;
        /* Round trips in which the program gave little take nothing away from what is known. */
        if (!s->app_limited) b->most[++b->round % BBR_ROUNDS] = 0;
    }
    /* Shorter than a round trip: acknowledgements were held up and came at once. */
    if (s->interval < max_u64(b->round_trip, 1000)) return new_round;
    uint64_t rate = min_u64(s->delivered, 1u << 30) * NS_PER_SECOND / s->interval;
    if (!s->app_limited || rate >= bandwidth(b)) {
        uint64_t *most = &b->most[b->round % BBR_ROUNDS];
        *most = max_u64(*most, min_u64(rate, BANDWIDTH_MAX));
    }
    return new_round;
}

/* Full when three round trips brought no quarter more. */
static void look_whether_filled(struct bbr *b, bool new_round, const struct rate_sample *s) {
    if (b->filled || !new_round || s->app_limited) return;
    if (bandwidth(b) >= b->filled_at + b->filled_at / 4) {
        b->filled_at = bandwidth(b);
        b->flat_rounds = 0;
    } else if (++b->flat_rounds >= 3) {
        b->filled = true;
    }
}

static void enter_probing(struct tcp *t) {
    struct bbr *b = &t->bbr;
    b->mode = BBR_PROBE_BANDWIDTH;
    b->phase = (uint8_t)(2 + t->iss % (BBR_PHASES - 2)); /* not all connections probe at once */
    b->phase_since = net_now();
}

/* A round trip each; more is tried until it is out or lost, less until it has drained. */
static void advance_phase(struct tcp *t, uint64_t flight, bool losing) {
    struct bbr *b = &t->bbr;
    bool over = net_now() - b->phase_since > b->round_trip;
    unsigned gain = cycle[b->phase];
    if (gain > UNIT) over = over && (losing || flight >= window_for(t, gain));
    if (gain < UNIT) over = over || flight <= window_for(t, UNIT);
    if (!over) return;
    b->phase = (uint8_t)((b->phase + 1) % BBR_PHASES);
    b->phase_since = net_now();
}

/* After ten seconds without a shorter round trip the queue is let run empty, to see the path itself. */
static void look_at_round_trip(struct tcp *t, uint64_t round_trip, uint64_t flight, bool new_round) {
    struct bbr *b = &t->bbr;
    uint64_t now = net_now();
    bool old = b->round_trip && now - b->round_trip_at > ROUND_TRIP_AGE;
    if (round_trip && (!b->round_trip || round_trip <= b->round_trip || old)) {
        b->round_trip = round_trip;
        b->round_trip_at = now;
    }
    if (old && !b->was_idle && b->mode != BBR_PROBE_ROUND_TRIP) {
        b->mode = BBR_PROBE_ROUND_TRIP;
        b->prior_cwnd = (uint32_t)max_u64(t->recovery ? b->prior_cwnd : 0, t->cwnd);
        b->probe_ends = 0;
    }
    b->was_idle = false;
    if (b->mode != BBR_PROBE_ROUND_TRIP) return;
    tcp_rate_app_limited(t, flight);
    if (!b->probe_ends && flight <= WINDOW_LEAST * t->mss) {
        b->probe_ends = now + PROBE_TIME;
        b->probed_round = false;
        b->round_ends = t->delivered;
    } else if (b->probe_ends) {
        b->probed_round |= new_round;
        if (!b->probed_round || now < b->probe_ends) return;
        b->round_trip_at = now;
        t->cwnd = (uint32_t)max_u64(t->cwnd, b->prior_cwnd);
        b->mode = BBR_STARTUP;
        if (b->filled) enter_probing(t);
    }
}

static void set_window(struct tcp *t, uint64_t arrived, uint64_t flight) {
    struct bbr *b = &t->bbr;
    unsigned gain = b->mode <= BBR_DRAIN ? GAIN_HIGH : GAIN_WINDOW;
    uint64_t quantum = min_u64(max_u64(b->pace / 1000, 2 * t->mss), QUANTUM_MOST);
    uint64_t target = window_for(t, gain) + 3 * quantum, cwnd = t->cwnd;
    if (b->conserve)
        cwnd = max_u64(cwnd, flight + arrived);
    else if (b->filled)
        cwnd = min_u64(cwnd + arrived, target);
    else if (cwnd < target || t->delivered < 10ull * t->mss)
        cwnd += arrived;
    cwnd = min_u64(max_u64(cwnd, WINDOW_LEAST * t->mss), CWND_MAX);
    if (b->mode == BBR_PROBE_ROUND_TRIP) cwnd = min_u64(cwnd, WINDOW_LEAST * t->mss);
    t->cwnd = (uint32_t)cwnd;
}

/* `arrived` bytes more are at the peer; `before` and `flight`: what was on its way before and is now. */
void tcp_bbr_ack(struct tcp *t, uint64_t arrived, uint64_t high, bool is_first, uint64_t before,
                 uint64_t flight) {
    struct bbr *b = &t->bbr;
    struct rate_sample s;
    if (!arrived || !tcp_rate_sample(t, arrived, high, &s)) return;
    bool new_round = take_bandwidth(t, &s);
    if (b->mode == BBR_PROBE_BANDWIDTH) advance_phase(t, before, t->recovery != RECOVERY_NONE);
    look_whether_filled(b, new_round, &s);
    if (b->mode == BBR_STARTUP && b->filled) b->mode = BBR_DRAIN;
    if (b->mode == BBR_DRAIN && flight <= window_for(t, UNIT)) enter_probing(t);
    look_at_round_trip(t, is_first ? max_u64(s.round_trip, 1000) : 0, flight, new_round);
    set_pace(t);
    set_window(t, arrived, flight);
}

/* ---- loss ---------------------------------------------------------------------------------------- */
void tcp_bbr_lose(struct tcp *t, bool timeout) {
    struct bbr *b = &t->bbr;
    b->prior_cwnd =
        (uint32_t)max_u64(t->recovery || b->mode == BBR_PROBE_ROUND_TRIP ? b->prior_cwnd : 0, t->cwnd);
    b->conserve = !timeout; /* for one round trip, a segment leaves for each that arrives */
    b->round_ends = t->delivered;
    if (timeout) b->filled_at = 0;
    t->cwnd = (uint32_t)(timeout ? t->mss : max_u64(tcp_in_flight(t), t->mss) + t->mss);
}

void tcp_bbr_recovered(struct tcp *t) {
    t->bbr.conserve = false;
    t->cwnd = (uint32_t)max_u64(t->cwnd, t->bbr.prior_cwnd);
}

/* The program sends again after a pause of its own: no round trip is measured meanwhile. */
void tcp_bbr_woken(struct tcp *t) {
    if (t->use_bbr && t->una == t->nxt && t->app_limited_until) t->bbr.was_idle = true;
}
