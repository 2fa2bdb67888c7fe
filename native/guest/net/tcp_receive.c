/* Data that arrives: into its place in the buffer, in order or not, and the end of the stream. */
#include "tcp.h"
#include <linux/errno.h>

/* Of all connections that nobody has accepted yet; what is refused comes again, after the accept. */
#define UNACCEPTED_PAGES_MAX 512u
#define UNACCEPTED_EARLY_MAX 256u /* out of order it helps least */

/* The peer sends a window's worth per round trip and the program takes it: offer twice as much. */
static void tune(struct tcp *t) {
    uint64_t round = t->srtt ? t->srtt : 100 * MS, now = net_now();
    if (now - t->tuned_at < round) return;
    if (!t->user_receive && t->rcv_nxt - t->tuned_from >= t->receive_limit / 2 && t->receive_scale)
        t->receive_limit = (uint32_t)min_u64(t->receive_limit * 2ull, RECEIVE_MAX);
    t->tuned_at = now;
    t->tuned_from = t->rcv_nxt;
}

static void in_order(struct tcp *t, size_t bytes) {
    t->rcv_nxt += bytes;
    bool filled = false;
    if (t->early && t->early->count && t->early->range[0].start <= t->rcv_nxt) {
        t->rcv_nxt = max_u64(t->rcv_nxt, t->early->range[0].end);
        ranges_cut(t->early, t->rcv_nxt);
        filled = true;
    }
    if (t->early && !t->early->count) {
        object_free(t->early, sizeof *t->early);
        t->early = NULL;
    }
    t->receive.end = t->rcv_nxt;
    if (t->receive_shut) buffer_drop(&t->receive, t->receive.end);
    tune(t);
    if (filled || t->early || ++t->unacked_segments >= 2)
        t->ack_now = true;
    else if (t->ack_at == NEVER)
        t->ack_at = net_now() + ACK_DELAY;
    if (t->ack_now) tcp_want_output(t);
    tcp_changed(t);
}

static size_t store(struct tcp *t, uint64_t start, const uint8_t *data, size_t bytes) {
    uint32_t before = t->receive.pages;
    size_t stored = buffer_put(&t->receive, start, data, bytes);
    if (t->listener) net->unaccepted_pages += t->receive.pages - before;
    return stored;
}

static void out_of_order(struct tcp *t, uint64_t start, const uint8_t *data, size_t bytes) {
    if (net->pages >= net->pages_max - net->pages_max / 4) return;
    if (t->listener && net->unaccepted_pages >= UNACCEPTED_EARLY_MAX) return;
    if (!t->early && !(t->early = object_alloc(sizeof *t->early))) return;
    uint64_t ranges = t->early->count;
    if (store(t, start, data, bytes) == bytes && ranges_add(t->early, start, start + bytes))
        t->latest_early = start;
    /* An ACK has room for three: a batch that lost more must not wait for its end. */
    if (t->early->count > ranges && t->sack_ok) tcp_send_segment(t, t->nxt, 0, TCP_ACK);
    if (!t->early->count) {
        object_free(t->early, sizeof *t->early);
        t->early = NULL;
    }
}

static void end_of_stream(struct tcp *t) {
    t->rcv_nxt++;
    t->fin_received = t->ack_now = true;
    tcp_want_output(t);
    if (t->state == TCP_ESTABLISHED)
        t->state = TCP_CLOSE_WAIT;
    else if (t->state == TCP_FIN_WAIT_1)
        t->state = TCP_CLOSING;
    else if (t->state == TCP_FIN_WAIT_2)
        tcp_time_wait(t);
    tcp_changed(t);
}

void tcp_data(struct tcp *t, struct segment *s) {
    uint64_t start = s->start, edge = max_u64(t->rcv_edge, t->rcv_nxt), fin_at = start + s->bytes;
    const uint8_t *data = s->data;
    size_t bytes = s->bytes;
    bool fin = s->flags & TCP_FIN;
    if (t->fin_received) return;
    if (start < t->rcv_nxt) {
        size_t known = min_u64(t->rcv_nxt - start, bytes);
        if (known) t->duplicate_start = start, t->duplicate_end = start + known;
        data += known, bytes -= known, start += known;
    }
    if (start + bytes > edge) { /* beyond what was offered */
        bytes = edge > start ? edge - start : 0;
        fin = false;
        t->ack_now = true;
        tcp_want_output(t);
    }
    if (bytes && t->orphaned) { /* nobody will ever read it */
        tcp_abort(t, ECONNRESET);
        return;
    }
    if (start > t->rcv_nxt) {
        t->ack_now = true;
        tcp_want_output(t);
        if (bytes) out_of_order(t, start, data, bytes);
        return; /* a FIN comes again with the data before it */
    }
    if (bytes && t->listener && net->unaccepted_pages >= UNACCEPTED_PAGES_MAX) return;
    if (bytes) {
        size_t stored = store(t, start, data, bytes);
        if (stored < bytes) fin = false;
        if (stored) in_order(t, stored);
    }
    if (fin && t->rcv_nxt == fin_at) end_of_stream(t);
}
