/* Building TCP segments: headers, options, the window that they announce. */
#include "tcp.h"

#define OPTION_MSS 2
#define OPTION_SCALE 3
#define OPTION_SACK_PERMITTED 4
#define OPTION_SACK 5
#define OPTION_TIMESTAMP 8

static uint8_t *put32(uint8_t *p, uint32_t value) {
    value = be32(value);
    memcpy(p, &value, 4);
    return p + 4;
}

static uint8_t *put_timestamp(uint8_t *p, uint32_t value, uint32_t echo) {
    *p++ = 1, *p++ = 1, *p++ = OPTION_TIMESTAMP, *p++ = 10;
    return put32(put32(p, value), echo);
}

static uint8_t *put_syn_options(uint8_t *p, uint16_t mss, bool sack, int scale) {
    *p++ = OPTION_MSS, *p++ = 4, *p++ = (uint8_t)(mss >> 8), *p++ = (uint8_t)mss;
    if (sack) *p++ = 1, *p++ = 1, *p++ = OPTION_SACK_PERMITTED, *p++ = 2;
    if (scale >= 0) *p++ = 1, *p++ = OPTION_SCALE, *p++ = 3, *p++ = (uint8_t)scale;
    return p;
}

static uint8_t *put_range(uint8_t *p, uint64_t start, uint64_t end) {
    return put32(put32(p, (uint32_t)start), (uint32_t)end);
}

/*
 * RFC 2018: the range that grew last comes first, then those before it, which are most likely the
 * next youngest; RFC 2883: a duplicate before all.
 */
static uint8_t *put_sacks(struct tcp *t, uint8_t *p) {
    unsigned room = t->timestamps_ok ? 3 : 4, count = 0, ranges = t->early ? (unsigned)t->early->count : 0;
    bool duplicate = t->duplicate_end > t->duplicate_start;
    if (!t->sack_ok || !(ranges + duplicate)) return p;
    uint8_t *length = p + 3;
    *p++ = 1, *p++ = 1, *p++ = OPTION_SACK, p++;
    if (duplicate) p = put_range(p, t->duplicate_start, t->duplicate_end), count++;
    t->duplicate_start = t->duplicate_end = 0;
    unsigned latest = 0;
    while (latest < ranges && t->early->range[latest].end <= t->latest_early) latest++;
    for (unsigned i = 0; i < ranges && count < room; i++, count++) {
        const struct range *r = &t->early->range[(latest + ranges - i) % ranges];
        p = put_range(p, r->start, r->end);
    }
    *length = (uint8_t)(2 + 8 * count);
    return p;
}

/* ---- the window ------------------------------------------------------------------------- */
/* Never takes back what was announced, and grows in steps worth announcing (RFC 9293, 3.8.6.2.2). */
void tcp_update_edge(struct tcp *t) {
    uint64_t unread = t->receive.end - t->receive.start;
    uint64_t room = t->receive_limit > unread ? t->receive_limit - unread : 0;
    uint64_t edge = t->rcv_nxt + room;
    if (edge >= t->rcv_edge + min_u64(t->receive_limit / 2, t->mss)) t->rcv_edge = edge;
}

static uint16_t announced_window(struct tcp *t) {
    tcp_update_edge(t);
    uint64_t window = t->rcv_edge > t->rcv_nxt ? t->rcv_edge - t->rcv_nxt : 0;
    uint64_t units = min_u64((window + (1u << t->receive_scale) - 1) >> t->receive_scale, 65535);
    t->rcv_edge = max_u64(t->rcv_edge, t->rcv_nxt + (units << t->receive_scale));
    return (uint16_t)units;
}

/* ---- segments ---------------------------------------------------------------------------- */
static void finish(uint8_t *room, uint8_t *options_end, size_t bytes, uint64_t sum, struct endpoint from,
                   struct endpoint to) {
    struct tcp_header *header = (void *)room;
    size_t length = (size_t)(options_end - room);
    header->source = be16(from.portno);
    header->destination = be16(to.portno);
    header->words = (uint8_t)(length / 4 << 4);
    header->checksum = header->urgent = 0;
    sum += sum_pseudo(from.ip, to.ip, IP_TCP, length + bytes);
    header->checksum = checksum(sum_bytes(room, length, sum));
    ip_send(room, length + bytes, IP_TCP, from.ip, to.ip);
}

static void note_sent(struct tcp *t, uint8_t flags) {
    if (!(flags & TCP_ACK)) return;
    t->ack_now = false;
    t->ack_at = NEVER;
    t->unacked_segments = 0;
    t->last_ack_sent = t->rcv_nxt;
}

/* `bytes` of the send buffer from `at` on, cut to what fits beside the options. */
bool tcp_send_segment(struct tcp *t, uint64_t at, size_t bytes, uint8_t flags) {
    uint8_t *room = ip_begin(t->remote.ip);
    if (!room) return false;
    struct tcp_header *header = (void *)room;
    uint8_t *p = room + sizeof *header;
    if (flags & TCP_SYN) {
        bool first = t->state == TCP_SYN_SENT;
        p = put_syn_options(p, t->mss > 0 ? tcp_mss_for(t->remote.ip) : 0, first || t->sack_ok,
                            first || t->receive_scale ? (int)RECEIVE_SCALE : -1);
        header->window = be16(RECEIVE_FIRST);
        t->rcv_edge = max_u64(t->rcv_edge, t->rcv_nxt + RECEIVE_FIRST);
        if (first || t->timestamps_ok) p = put_timestamp(p, tcp_timestamp(t), t->ts_recent);
    } else {
        header->window = be16(announced_window(t));
        if (t->timestamps_ok) p = put_timestamp(p, tcp_timestamp(t), t->ts_recent);
        p = put_sacks(t, p);
    }
    size_t options = (size_t)(p - room) - sizeof *header;
    assert(bytes + options <= t->mss + 12u + 36u);
    header->sequence = be32((uint32_t)at);
    header->acknowledgement = flags & TCP_ACK ? be32((uint32_t)t->rcv_nxt) : 0;
    header->flags = flags;
    finish(room, p, bytes, bytes ? buffer_get_sum(&t->send, at, p, bytes) : 0, t->local, t->remote);
    note_sent(t, flags);
    return true;
}

/* RFC 9293, 3.10.7.1: what a reset must look like so that the other side believes it. */
void tcp_send_reset(const struct segment *s) {
    if (s->flags & TCP_RST) return;
    uint8_t *room = ip_begin(s->from.ip);
    if (!room) return;
    struct tcp_header *header = (void *)room;
    *header = (struct tcp_header){.flags = TCP_RST};
    if (s->flags & TCP_ACK) {
        header->sequence = be32(s->acknowledgement);
    } else {
        uint32_t length = (uint32_t)s->bytes + !!(s->flags & TCP_SYN) + !!(s->flags & TCP_FIN);
        header->acknowledgement = be32(s->sequence + length);
        header->flags |= TCP_ACK;
    }
    net->counters.resets_sent++;
    finish(room, room + sizeof *header, 0, 0, s->to, s->from);
}

bool tcp_send_syn_ack(const struct tcp_request *r) {
    uint8_t *room = ip_begin(r->remote.ip);
    if (!room) return false;
    struct tcp_header *header = (void *)room;
    *header = (struct tcp_header){.sequence = be32(r->iss),
                                  .acknowledgement = be32(r->irs + 1),
                                  .flags = TCP_SYN | TCP_ACK,
                                  .window = be16(RECEIVE_FIRST)};
    uint8_t *p = put_syn_options(room + sizeof *header, tcp_mss_for(r->remote.ip), r->sack,
                                 r->scale >= 0 ? (int)RECEIVE_SCALE : -1);
    if (r->timestamps) p = put_timestamp(p, (uint32_t)(net_now() / MS), r->ts_recent);
    finish(room, p, 0, 0, r->local, r->remote);
    return true;
}
