/* Acknowledgements: what they free, what they say about the path, and about loss (RFC 5681, 6298, 5961). */
#include "tcp.h"

void tcp_rtt(struct tcp *t, uint64_t rtt) {
    if (!t->srtt) {
        t->srtt = max_u64(rtt, 1);
        t->rttvar = rtt / 2;
    } else {
        uint64_t off = rtt > t->srtt ? rtt - t->srtt : t->srtt - rtt;
        t->rttvar += off / 4 - t->rttvar / 4;
        t->srtt = max_u64(t->srtt + rtt / 8 - t->srtt / 8, 1);
    }
    t->rto = min_u64(t->srtt + max_u64(4 * t->rttvar, RTO_MIN), RTO_MAX);
}

/* `high` becomes the end of the highest range that brought news, or stays. */
static bool take_sacks(struct tcp *t, const struct segment *s, uint64_t *high) {
    bool news = false;
    for (unsigned i = 0; i < s->sacks; i++) {
        uint64_t start = sequence_near(t->una, s->sack[i][0]), end = sequence_near(t->una, s->sack[i][1]);
        if (start >= end || start < t->una || end > t->nxt) continue; /* an old one, or a duplicate */
        if (!t->sacked && !(t->sacked = object_alloc(sizeof *t->sacked))) return news;
        uint64_t before = ranges_bytes(t->sacked, t->una);
        if (ranges_add(t->sacked, start, end)) tcp_resent_arrived(t, start, end);
        if (ranges_bytes(t->sacked, t->una) == before) continue;
        *high = max_u64(*high, end);
        news = true;
    }
    return news;
}

/* The first ACK after a retransmission echoes an older stamp: the original had arrived. */
static void undo_if_spurious(struct tcp *t, const struct segment *s) {
    if (!t->recovery || !t->undo_possible) return;
    t->undo_possible = false;
    if (!s->has_timestamp || (int32_t)(s->ts_echo - t->first_rexmit_ts) >= 0) return;
    tcp_congestion_undo(t);
    if (t->recovery == RECOVERY_FAST) t->reorder = (uint8_t)min_u64(t->reorder * 2u, 96);
    t->recovery = RECOVERY_NONE;
    net->counters.spurious++;
}

static void advance(struct tcp *t, const struct segment *s, uint64_t ack) {
    uint64_t acked = ack - t->una;
    if (t->timestamps_ok && s->has_timestamp && s->ts_echo) {
        uint32_t ms = tcp_timestamp(t) - s->ts_echo;
        if (ms < 1u << 24) tcp_rtt(t, max_u64(ms, 1) * MS);
    } else if (t->rtt_seq && ack >= t->rtt_seq) {
        tcp_rtt(t, net_now() - t->rtt_at);
    }
    if (t->rtt_seq && ack >= t->rtt_seq) t->rtt_seq = 0;
    undo_if_spurious(t, s);
    t->una = ack;
    tcp_resent_arrived(t, 0, ack);
    t->unacked_since = net_now();
    t->retries = 0;
    t->probe_sent = false;
    buffer_drop(&t->send, min_u64(ack, t->send.end));
    if (t->sacked) {
        ranges_cut(t->sacked, ack);
        if (!t->sacked->count) {
            object_free(t->sacked, sizeof *t->sacked);
            t->sacked = NULL;
        }
    }
    if (t->recovery && ack >= t->recover) {
        tcp_congestion_recovered(t);
        t->recovery = RECOVERY_NONE;
        t->dup_segments = 0;
    } else if (!t->sack_ok) {
        uint64_t segments = acked / t->mss;
        t->dup_segments =
            t->recovery && t->dup_segments > segments ? (uint8_t)(t->dup_segments - segments) : 0;
        if (t->recovery == RECOVERY_FAST) tcp_forget_resent(t); /* NewReno: the next one is lost too */
    }
    if (!t->use_bbr) tcp_cubic_grow(t, acked);
}

static void take_window(struct tcp *t, const struct segment *s, uint64_t start, uint64_t ack) {
    /* What acknowledges more is newer, also when a FIN that is sent again brings it. */
    bool older = start < t->window_seq || (start == t->window_seq && ack < t->window_ack);
    if (older && ack <= t->window_ack) return;
    bool opened = !t->window && s->window;
    t->window = s->window;
    t->max_window = (uint32_t)max_u64(t->max_window, t->window);
    t->window_seq = max_u64(t->window_seq, start);
    t->window_ack = ack;
    if (opened) {
        t->persisting = false;
        t->probes = 0;
    }
}

/* RFC 5961, 5: an ACK of what was never sent, or of long ago, is answered and not believed. */
static void challenge(struct tcp *t) {
    if (net_now() < t->challenge_at) return;
    t->challenge_at = net_now() + 500 * MS;
    net->counters.challenges++;
    t->ack_now = true;
    tcp_want_output(t);
}

bool tcp_ack(struct tcp *t, struct segment *s) {
    uint64_t ack = sequence_near(t->una, s->acknowledgement);
    if (ack > t->nxt || ack + max_u64(t->max_window, 65536) < t->una) {
        challenge(t);
        return false;
    }
    if (ack < t->una) return true;
    if (t->una == t->nxt) t->retries = 0; /* an answer to a probe */
    uint64_t una = t->una, sacked = ranges_bytes(t->sacked, una), high = 0;
    uint64_t edge = tcp_lost_edge(t), flight = t->use_bbr ? tcp_in_flight(t) : 0;
    bool news = t->sack_ok && s->sacks && take_sacks(t, s, &high);
    /* How long it took can be told of what was sent once, and has arrived just now. */
    bool once = !t->probe_sent && (high ? high > edge : ack > edge && !sacked);
    bool duplicate =
        ack == t->una && t->una < t->nxt && !s->bytes && !(s->flags & TCP_FIN) && s->window == t->window;
    bool room = ack > t->una;
    if (room) advance(t, s, ack);
    if (duplicate && !t->sack_ok && t->dup_segments < 250) t->dup_segments++;
    take_window(t, s, sequence_near(t->rcv_nxt, s->sequence), ack);
    if (!t->recovery && tcp_is_lost(t)) tcp_lose(t, RECOVERY_FAST);
    if (t->recovery && news) tcp_lose_resent(t);
    if (t->use_bbr) {
        uint64_t arrived = t->una - una + ranges_bytes(t->sacked, t->una) - sacked;
        tcp_bbr_ack(t, arrived, max_u64(high, t->una), once, flight, tcp_in_flight(t));
        tcp_rate_forget(t);
    }
    tcp_want_output(t);
    if (room) tcp_changed(t);
    return true;
}
