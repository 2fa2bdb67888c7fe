/* Connections: the table, their beginning and end, and the bounds on those that nobody holds. */
#include "tcp.h"
#include <linux/errno.h>

static struct tcp **bucket_of(struct endpoint local, struct endpoint remote) {
    uint64_t h = keyed_hash(net->hash_key, (uint64_t)local.ip << 32 | remote.ip,
                            (uint64_t)local.portno << 16 | remote.portno);
    return &net->connections[h % TCP_BUCKETS];
}

static bool same(struct endpoint a, struct endpoint b) { return a.ip == b.ip && a.portno == b.portno; }

struct tcp *tcp_find(struct endpoint local, struct endpoint remote) {
    struct tcp *t = *bucket_of(local, remote);
    while (t && !(same(t->local, local) && same(t->remote, remote))) t = t->hash_next;
    return t;
}

void tcp_enter(struct tcp *t) {
    struct tcp **bucket = bucket_of(t->local, t->remote);
    t->hash_next = *bucket;
    *bucket = t;
}

uint32_t tcp_timestamp(const struct tcp *t) { return (uint32_t)(net_now() / MS) + t->ts_offset; }

/* RFC 6528: a clock and a secret of the pair of ends. */
uint32_t tcp_initial_sequence(struct endpoint local, struct endpoint remote) {
    uint64_t h = keyed_hash(net->hash_key, (uint64_t)remote.ip << 32 | local.ip,
                            (uint64_t)remote.portno << 16 | local.portno);
    return (uint32_t)h + (uint32_t)(net_now() / 64);
}

uint16_t tcp_mss_for(uint32_t ip) { return (uint16_t)(ip_mtu(ip) - IP_HEADER - sizeof(struct tcp_header)); }

struct tcp *tcp_new(struct endpoint local, struct endpoint remote, const struct socket_options *options) {
    struct tcp *t = object_alloc(sizeof *t);
    if (!t) return NULL;
    t->local = local;
    t->remote = remote;
    t->timer.fire = tcp_fire;
    t->resend_at = t->ack_at = t->idle_at = NEVER;
    t->heard_at = t->sent_at = net_now();
    t->mss = tcp_mss_for(remote.ip);
    if (options->max_segment) t->mss = (uint32_t)min_u64(t->mss, options->max_segment);
    t->iss = 0x100000000ull + tcp_initial_sequence(local, remote);
    t->una = t->nxt = t->iss;
    t->send.start = t->send.end = t->small_end = t->iss + 1;
    t->rto = NS_PER_SECOND;
    t->reorder = 3;
    t->use_bbr = !options->cubic && !ip_is_local(remote.ip);
    tcp_congestion_start(t);
    t->receive_limit =
        (uint32_t)(options->user_receive ? min_u64(options->receive_bytes, RECEIVE_MAX) : 131072);
    t->user_receive = options->user_receive;
    t->nagle_off = options->no_delay;
    t->corked = options->cork;
    return t;
}

void tcp_changed(struct tcp *t) {
    if (t->socket)
        net_socket_changed(t->socket);
    else if (t->listener)
        net_socket_changed(t->listener->socket);
}

/* ---- lists ------------------------------------------------------------------------------------ */
void tcp_queue_add(struct tcp *t, struct tcp ***end) {
    t->queue_next = NULL;
    t->queue_link = *end;
    **end = t;
    *end = &t->queue_next;
}

void tcp_queue_remove(struct tcp *t, struct tcp ***end) {
    if (!t->queue_link) return;
    if ((*t->queue_link = t->queue_next))
        t->queue_next->queue_link = t->queue_link;
    else
        *end = t->queue_link;
    t->queue_link = NULL;
}

static void leave_queues(struct tcp *t) {
    if (t->listener) {
        tcp_accept_remove(t);
    } else if (t->queue_link && t->state == TCP_TIME_WAIT) {
        tcp_queue_remove(t, &net->time_waits_end);
        net->time_wait_count--;
    } else if (t->queue_link) {
        tcp_queue_remove(t, &net->orphans_end);
        net->orphan_count--;
    }
}

/* ---- the end ----------------------------------------------------------------------------------- */
static void free_ranges(struct ranges **set) {
    if (*set) object_free(*set, sizeof **set);
    *set = NULL;
}

static void free_sending(struct tcp *t) {
    buffer_free(&t->send);
    free_ranges(&t->sacked);
    tcp_forget_resent(t);
    if (t->sends) object_free(t->sends, sizeof *t->sends);
    t->sends = NULL;
}

static void free_receiving(struct tcp *t) {
    free_ranges(&t->early);
    buffer_free(&t->receive);
}

void tcp_close(struct tcp *t, int error) {
    if (t->state == TCP_CLOSED) return;
    leave_queues(t);
    struct tcp **link = bucket_of(t->local, t->remote);
    while (*link && *link != t) link = &(*link)->hash_next;
    if (*link) *link = t->hash_next;
    deadline_cancel(&t->timer);
    t->state = TCP_CLOSED;
    free_sending(t);
    if (!t->socket) {
        free_receiving(t);
        return;
    }
    if (error) t->socket->error = error; /* what has arrived can still be read */
    net_socket_changed(t->socket);
}

void tcp_release(struct tcp *t) {
    if (t->state != TCP_CLOSED || t->socket || t->in_output) return;
    free_receiving(t);
    object_free(t, sizeof *t);
}

void tcp_abort(struct tcp *t, int error) {
    if (t->state >= TCP_SYN_RECEIVED && t->state != TCP_TIME_WAIT) {
        struct segment s = {
            .from = t->remote, .to = t->local, .flags = TCP_ACK, .acknowledgement = (uint32_t)t->nxt};
        tcp_send_reset(&s);
    }
    tcp_close(t, error);
}

/*
 * Which orphan gives way to one more: the oldest when they are many, and when they hold much, the
 * oldest whose peer has taken nothing or has fallen silent. Whoever still downloads is left alone.
 */
static struct tcp *orphan_to_end(uint64_t pages) {
    struct tcp *silent = NULL;
    if (net->orphan_count >= ORPHANS_MAX) return net->orphans;
    for (struct tcp *t = net->orphans; t; t = t->queue_next) {
        pages += t->send.pages;
        if (!silent && t->send.pages && (t->retries || t->una <= t->iss + 1)) silent = t;
    }
    return pages > ORPHAN_PAGES_MAX ? silent : NULL;
}

/* Closed by the program, alive on the wire. */
void tcp_orphan(struct tcp *t) {
    t->socket = NULL;
    t->orphaned = true;
    if (t->state == TCP_TIME_WAIT) return;
    free_receiving(t); /* nobody will read it, and more of it resets the connection */
    t->receive.start = t->receive.end;
    struct tcp *ended;
    while ((ended = orphan_to_end(t->send.pages))) {
        tcp_abort(ended, ECONNABORTED);
        tcp_release(ended);
    }
    tcp_queue_add(t, &net->orphans_end);
    net->orphan_count++;
    if (t->state == TCP_FIN_WAIT_2) t->idle_at = net_now() + TIME_WAIT_NS;
    tcp_arm(t);
}

bool net_delivered(void) {
    for (struct tcp *t = net->orphans; t; t = t->queue_next)
        if (t->state == TCP_FIN_WAIT_1 || t->state == TCP_CLOSING || t->state == TCP_LAST_ACK) return false;
    return true;
}

void tcp_time_wait(struct tcp *t) {
    leave_queues(t);
    if (net->time_wait_count >= TIME_WAITS_MAX) {
        struct tcp *oldest = net->time_waits;
        tcp_close(oldest, 0);
        tcp_release(oldest);
    }
    t->state = TCP_TIME_WAIT;
    t->resend_at = NEVER;
    t->idle_at = net_now() + TIME_WAIT_NS;
    free_sending(t);
    if (!t->socket) free_receiving(t);
    tcp_queue_add(t, &net->time_waits_end);
    net->time_wait_count++;
    tcp_arm(t);
    tcp_changed(t);
}

/* From ICMP. Too big: smaller segments from now on, and what is out is sent again. */
void tcp_unreachable(struct endpoint from, struct endpoint to, uint32_t sequence, int error, uint16_t mtu) {
    struct tcp *t = tcp_find(from, to);
    if (!t) return;
    uint64_t at = sequence_near(t->una, sequence);
    if (at < t->una || at >= t->nxt) return; /* not of anything that is out: forged, or late */
    if (error) {
        if (t->state == TCP_SYN_SENT) tcp_close(t, error);
        tcp_release(t);
        return;
    }
    uint32_t mss = max_u64(mtu, 552) - IP_HEADER - sizeof(struct tcp_header) - (t->timestamps_ok ? 12 : 0);
    if (t->state < TCP_ESTABLISHED || t->state == TCP_TIME_WAIT || mss >= t->mss) return;
    t->mss = mss;
    tcp_lose(t, RECOVERY_TIMEOUT);
}
