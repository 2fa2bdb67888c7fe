/* Segments that arrive: parsing, finding the connection, and the steps of RFC 9293, 3.10.7. */
#include "tcp.h"
#include <linux/errno.h>

static uint32_t get32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void parse_options(struct segment *s, const uint8_t *p, const uint8_t *end) {
    while (p < end && *p) {
        if (*p == 1) {
            p++;
            continue;
        }
        if (end - p < 2 || p[1] < 2 || p[1] > end - p) return;
        unsigned length = p[1];
        bool syn = s->flags & TCP_SYN;
        if (p[0] == 2 && length == 4 && syn) s->max_segment = (uint16_t)(p[2] << 8 | p[3]);
        if (p[0] == 3 && length == 3 && syn) s->scale = (int8_t)min_u64(p[2], 14);
        if (p[0] == 4 && length == 2 && syn) s->sack_permitted = true;
        if (p[0] == 5 && length >= 10 && (length - 2) % 8 == 0)
            for (s->sacks = 0; s->sacks < (length - 2) / 8 && s->sacks < 4; s->sacks++) {
                s->sack[s->sacks][0] = get32(p + 2 + 8 * s->sacks);
                s->sack[s->sacks][1] = get32(p + 6 + 8 * s->sacks);
            }
        if (p[0] == 8 && length == 10) {
            s->has_timestamp = true;
            s->ts_value = get32(p + 2);
            s->ts_echo = get32(p + 6);
        }
        p += length;
    }
}

void tcp_input(const struct ip_header *ip, const uint8_t *bytes, size_t length) {
    const struct tcp_header *header = (const void *)bytes;
    if (length < sizeof *header) return;
    size_t header_bytes = (header->words >> 4) * 4u;
    if (header_bytes < sizeof *header || header_bytes > length) return;
    struct segment s = {.from = {be32(ip->source), be16(header->source)},
                        .to = {be32(ip->destination), be16(header->destination)},
                        .sequence = be32(header->sequence),
                        .acknowledgement = be32(header->acknowledgement),
                        .window = be16(header->window),
                        .flags = header->flags & 0x1f,
                        .data = bytes + header_bytes,
                        .bytes = length - header_bytes,
                        .scale = -1};
    if (checksum(sum_bytes(bytes, length, sum_pseudo(s.from.ip, s.to.ip, IP_TCP, length)))) {
        net->counters.bad_checksum++;
        return;
    }
    parse_options(&s, bytes + sizeof *header, bytes + header_bytes);
    struct tcp *t = tcp_find(s.to, s.from);
    if (t) {
        tcp_segment(t, &s);
        if (t->state == TCP_CLOSED)
            tcp_release(t);
        else
            tcp_arm(t);
    } else if (!tcp_listener_input(&s)) {
        tcp_send_reset(&s);
    }
}

/* What both SYNs agreed on. */
void tcp_negotiate(struct tcp *t, const struct segment *s) {
    uint32_t theirs = s->max_segment ? s->max_segment : TCP_MSS_DEFAULT;
    t->mss = (uint32_t)max_u64(min_u64(theirs, t->mss), TCP_MSS_MIN);
    t->sack_ok = s->sack_permitted;
    t->timestamps_ok = s->has_timestamp;
    if (t->timestamps_ok) {
        t->mss -= 12;
        t->ts_recent = s->ts_value;
        t->ts_recent_at = net_now();
    }
    t->send_scale = s->scale >= 0 ? (uint8_t)s->scale : 0;
    t->receive_scale = s->scale >= 0 ? RECEIVE_SCALE : 0;
    if (s->scale < 0) t->receive_limit = (uint32_t)min_u64(t->receive_limit, 65535);
    tcp_congestion_start(t);
    t->rcv_nxt = 0x100000000ull + s->sequence + 1;
    t->receive.start = t->receive.end = t->rcv_edge = t->last_ack_sent = t->tuned_from = t->rcv_nxt;
    t->tuned_at = net_now();
    t->window = t->max_window = s->window; /* never scaled in a SYN */
    t->window_seq = t->rcv_nxt - 1;
    t->rcv_edge = t->rcv_nxt + min_u64(RECEIVE_FIRST, t->receive_limit);
}

static void challenge(struct tcp *t) {
    if (net_now() < t->challenge_at) return;
    t->challenge_at = net_now() + 500 * MS;
    net->counters.challenges++;
    t->ack_now = true;
    tcp_want_output(t);
}

static void established(struct tcp *t) {
    t->state = TCP_ESTABLISHED;
    t->una = t->nxt = t->iss + 1;
    t->retries = 0;
    t->heard_at = net_now();
    if (t->fin_queued) t->state = TCP_FIN_WAIT_1;
    tcp_changed(t);
}

static void segment_in_syn_sent(struct tcp *t, struct segment *s) {
    uint64_t ack = sequence_near(t->iss, s->acknowledgement);
    bool acks = s->flags & TCP_ACK;
    if (acks && ack != t->iss + 1) {
        tcp_send_reset(s);
        return;
    }
    if (s->flags & TCP_RST) {
        if (acks) tcp_close(t, ECONNREFUSED);
        return;
    }
    if (!(s->flags & TCP_SYN)) return;
    if (t->timestamps_ok || s->has_timestamp) t->ts_recent = s->ts_value;
    tcp_negotiate(t, s);
    if (t->rtt_at && !t->retries) tcp_rtt(t, net_now() - t->rtt_at);
    t->ack_now = true;
    if (acks) {
        t->window_ack = ack;
        established(t);
        s->start = t->rcv_nxt;
        if (s->bytes || (s->flags & TCP_FIN)) tcp_data(t, s);
    } else {
        t->state = TCP_SYN_RECEIVED; /* both ends opened at once */
        t->nxt = t->iss;
    }
    tcp_want_output(t);
}

/* RFC 9293's four cases and RFC 7323's stamps; trims the segment to the window. */
static bool acceptable(struct tcp *t, struct segment *s) {
    bool reset = s->flags & TCP_RST;
    if (t->timestamps_ok && s->has_timestamp && !reset && (int32_t)(s->ts_value - t->ts_recent) < 0 &&
        net_now() - t->ts_recent_at < 24ull * 86400 * NS_PER_SECOND) {
        if (s->bytes)
            t->ack_now = true, tcp_want_output(t);
        else
            challenge(t);
        return false;
    }
    uint64_t start = s->start, end = start + s->bytes + !!(s->flags & TCP_SYN) + !!(s->flags & TCP_FIN);
    uint64_t edge = max_u64(t->rcv_edge, t->rcv_nxt);
    bool fits = start == end ? start >= t->rcv_nxt && start <= edge
                             : end > t->rcv_nxt && (start < edge || start == t->rcv_nxt);
    if (fits) return true;
    if (reset) return false;
    if (s->bytes && end <= t->rcv_nxt) t->duplicate_start = start, t->duplicate_end = start + s->bytes;
    if (t->state == TCP_TIME_WAIT && (s->flags & TCP_FIN)) t->idle_at = net_now() + TIME_WAIT_NS;
    if (s->bytes || s->flags & (TCP_SYN | TCP_FIN)) {
        t->ack_now = true;
        tcp_want_output(t);
    } else {
        challenge(t);
    }
    return false;
}

/* After an acknowledgement: has our FIN arrived? */
static void advance_state(struct tcp *t) {
    if (!t->fin_queued || t->una <= t->send.end) return;
    if (t->state == TCP_FIN_WAIT_1) {
        t->state = TCP_FIN_WAIT_2;
        t->idle_at = tcp_idle_time(t);
    } else if (t->state == TCP_CLOSING) {
        tcp_time_wait(t);
    } else if (t->state == TCP_LAST_ACK) {
        tcp_close(t, 0);
    }
}

void tcp_segment(struct tcp *t, struct segment *s) {
    if (t->state == TCP_SYN_SENT) {
        segment_in_syn_sent(t, s);
        return;
    }
    s->start = sequence_near(t->rcv_nxt, s->sequence);
    bool syn = s->flags & TCP_SYN, reset = s->flags & TCP_RST;
    if (t->state == TCP_TIME_WAIT && syn && !reset && !(s->flags & TCP_ACK) && s->start > t->rcv_nxt &&
        tcp_listener_for(t->local)) { /* RFC 1122, 4.2.2.13: a new connection may take over */
        tcp_close(t, 0);
        tcp_listener_input(s);
        return;
    }
    if (!acceptable(t, s)) return;
    if (reset) {
        if (s->start == t->rcv_nxt)
            tcp_close(t, t->state == TCP_SYN_RECEIVED ? ECONNREFUSED
                         : t->state == TCP_TIME_WAIT  ? 0
                                                      : ECONNRESET);
        else
            challenge(t);
        return;
    }
    if (syn) {
        challenge(t);
        return;
    }
    if (!(s->flags & TCP_ACK)) return;
    if (t->state == TCP_SYN_RECEIVED) {
        if (sequence_near(t->iss, s->acknowledgement) != t->iss + 1) {
            tcp_send_reset(s);
            return;
        }
        established(t);
    }
    if (t->timestamps_ok && s->has_timestamp && s->start <= t->last_ack_sent &&
        (int32_t)(s->ts_value - t->ts_recent) >= 0) {
        t->ts_recent = s->ts_value;
        t->ts_recent_at = net_now();
    }
    s->window <<= t->send_scale;
    if (!tcp_ack(t, s)) return;
    t->heard_at = net_now();
    t->keep_probes = 0;
    advance_state(t);
    if (t->state == TCP_CLOSED || t->state == TCP_TIME_WAIT) return;
    if (s->bytes || (s->flags & TCP_FIN)) tcp_data(t, s);
}
