/* When a segment may leave: what is lost first, then new data within both windows. */
#include "tcp.h"

/* How much payload fits beside the options that this segment will carry. */
static uint32_t payload_max(const struct tcp *t) {
    unsigned blocks = (t->early ? (unsigned)t->early->count : 0) + (t->duplicate_end > t->duplicate_start);
    if (!t->sack_ok || !blocks) return t->mss;
    uint32_t taken = 4 + 8 * (uint32_t)min_u64(blocks, t->timestamps_ok ? 3 : 4);
    return t->mss > taken + TCP_MSS_MIN ? t->mss - taken : TCP_MSS_MIN;
}

static bool send_range(struct tcp *t, uint64_t at, uint64_t bytes, bool fin) {
    uint8_t flags = TCP_ACK | (fin ? TCP_FIN : 0);
    if (bytes && at + bytes == t->send.end) flags |= TCP_PSH;
    if (!tcp_send_segment(t, at, bytes, flags)) return false;
    t->sent_at = net_now();
    if (t->una == t->nxt && at == t->nxt) t->unacked_since = t->sent_at;
    return true;
}

/* A FIN takes the number after the last byte. */
static bool resend(struct tcp *t, uint64_t start, uint64_t end, uint64_t *next) {
    uint64_t data_end = min_u64(end, t->send.end);
    uint64_t bytes = start < data_end ? min_u64(payload_max(t), data_end - start) : 0;
    bool fin = t->nxt > t->send.end && start + bytes == t->send.end;
    if (!send_range(t, start, bytes, fin)) return false;
    *next = start + bytes + fin;
    if (t->rtt_seq && start < t->rtt_seq) t->rtt_seq = 0; /* Karn */
    if (start == t->una) t->resent_at = t->sent_at;
    net->counters.retransmits++;
    return true;
}

static bool output_lost(struct tcp *t, uint64_t *flight) {
    uint64_t start, end;
    while (t->recovery && (*flight < t->cwnd) && tcp_hole(t, &start, &end)) {
        uint64_t next;
        if ((t->resent && t->resent->count == RESENT_MAX) || !tcp_bbr_may_send(t)) break;
        if (!resend(t, start, end, &next)) return false;
        *flight += next - start;
        tcp_bbr_sent(t, next - start);
        if (!tcp_note_resent(t, start, next)) break; /* memory is short */
    }
    return true;
}

/* RFC 9293, 3.8.6.2.1 (silly windows) and Nagle in Minshall's form: one small segment at a time. */
static bool worth_sending(const struct tcp *t, uint64_t bytes, uint64_t unsent, uint32_t most) {
    if (bytes >= most || t->push_anyway) return true; /* also into what stays small: an update got lost */
    if (bytes < unsent) return bytes >= t->max_window / 2; /* the peer's window cuts it short */
    if (t->fin_queued) return true;
    if (t->corked) return false;
    return t->nagle_off || t->small_end <= t->una;
}

static bool output_new(struct tcp *t, uint64_t flight) {
    uint64_t edge = t->una + t->window;
    while (t->nxt <= t->send.end) {
        uint32_t most = payload_max(t);
        uint64_t unsent = t->send.end - t->nxt, open = edge > t->nxt ? edge - t->nxt : 0;
        uint64_t bytes = min_u64(min_u64(unsent, most), open);
        bool fin = t->fin_queued && bytes == unsent && bytes < open;
        if (!bytes && !fin) {
            if (!unsent) tcp_rate_app_limited(t, flight);
            break;
        }
        if (flight && flight + bytes > t->cwnd) {
            t->cwnd_limited = true;
            break;
        }
        if (!fin && !worth_sending(t, bytes, unsent, most)) break;
        if (!tcp_bbr_may_send(t)) break;
        tcp_bbr_woken(t);
        if (!send_range(t, t->nxt, bytes, fin)) return false;
        if (t->use_bbr) tcp_rate_sent(t);
        tcp_bbr_sent(t, bytes);
        if (!t->rtt_seq) {
            t->rtt_seq = t->nxt + bytes + fin;
            t->rtt_at = net_now();
        }
        t->nxt += bytes + fin;
        flight += bytes + fin;
        if (bytes < most) t->small_end = t->nxt;
        if (fin) break;
    }
    return true;
}

/* RFC 5681, 4.1: after a pause the old window says nothing about the path any more. */
static void restart_after_idle(struct tcp *t) {
    uint32_t first = 10 * t->mss;
    if (t->use_bbr) return; /* it paces */
    if (t->una == t->nxt && t->cwnd > first && net_now() > t->sent_at + t->rto) t->cwnd = first;
}

bool tcp_output(struct tcp *t) {
    bool sent_all = true;
    if (t->state == TCP_SYN_SENT || t->state == TCP_SYN_RECEIVED) {
        if (t->nxt == t->iss) {
            uint8_t flags = TCP_SYN | (t->state == TCP_SYN_RECEIVED ? TCP_ACK : 0);
            sent_all = tcp_send_segment(t, t->iss, 0, flags);
            if (sent_all) t->nxt = t->iss + 1;
            t->sent_at = net_now();
        } else if (t->ack_now && t->state == TCP_SYN_RECEIVED) {
            sent_all = tcp_send_segment(t, t->nxt, 0, TCP_ACK);
        }
    } else if (t->state == TCP_TIME_WAIT) {
        if (t->ack_now) sent_all = tcp_send_segment(t, t->nxt, 0, TCP_ACK);
    } else if (t->state >= TCP_ESTABLISHED) {
        restart_after_idle(t);
        uint64_t flight = tcp_in_flight(t);
        sent_all = output_lost(t, &flight) && output_new(t, flight);
        if (sent_all && t->ack_now) sent_all = tcp_send_segment(t, t->nxt, 0, TCP_ACK);
        t->push_anyway = false;
    }
    if (t->state != TCP_CLOSED) {
        tcp_arm_resend(t);
        tcp_arm(t);
    }
    return sent_all;
}

void tcp_want_output(struct tcp *t) {
    if (t->in_output || t->state == TCP_CLOSED) return;
    t->in_output = true;
    t->output_next = NULL;
    *net->output_end = t;
    net->output_end = &t->output_next;
}

bool tcp_outputs(void) {
    while (net->output) {
        struct tcp *t = net->output;
        if (t->state != TCP_CLOSED && !tcp_output(t)) return false; /* stays first */
        if (!(net->output = t->output_next)) net->output_end = &net->output;
        t->in_output = false;
        if (t->state == TCP_CLOSED) tcp_release(t);
    }
    return true;
}
