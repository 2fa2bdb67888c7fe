/*
 * Listening: a handshake costs a small request until it is complete. Requests are bounded; when
 * there is no room, the answer is a cookie (a keyed hash and the peer's segment size), and the
 * ACK that brings it back makes the connection. So floods cost no memory and lock nobody out.
 */
#include "tcp.h"

#define REQUESTS_MAX 1024u
#define REQUEST_TRIES 5u
#define COOKIE_PERIOD (64 * NS_PER_SECOND)

static const uint16_t cookie_sizes[4] = {536, 1220, 1440, 1460};

static uint64_t pair_of(struct endpoint a, struct endpoint b) {
    return keyed_hash(net->hash_key, (uint64_t)a.ip << 32 | b.ip, (uint64_t)a.portno << 16 | b.portno);
}

struct tcp_listener *tcp_listener_for(struct endpoint local) {
    struct tcp_listener *any = NULL;
    for (struct socket *s = net->tcp_bound; s; s = s->next) {
        if (!s->listener || s->local.portno != local.portno) continue;
        if (s->local.ip == local.ip) return s->listener;
        if (!s->local.ip) any = s->listener;
    }
    return any;
}

static struct tcp_request *find_request(const struct segment *s) {
    struct tcp_request *r = net->requests[pair_of(s->to, s->from) % REQUEST_BUCKETS];
    while (r && !(r->remote.ip == s->from.ip && r->remote.portno == s->from.portno &&
                  r->local.ip == s->to.ip && r->local.portno == s->to.portno))
        r = r->next;
    return r;
}

static void forget_request(struct tcp_request *r) {
    deadline_cancel(&r->timer);
    if ((*r->link = r->next)) r->next->link = r->link;
    net->request_count--;
    object_free(r, sizeof *r);
}

static void request_due(struct deadline *it) {
    struct tcp_request *r = (struct tcp_request *)((uint8_t *)it - offsetof(struct tcp_request, timer));
    if (++r->tries > REQUEST_TRIES) {
        forget_request(r);
        return;
    }
    tcp_send_syn_ack(r);
    deadline_set(&r->timer, net_now() + (NS_PER_SECOND << r->tries));
}

/* ---- cookies: 24 bits of hash, 6 of time, 2 of segment size ------------------------------- */
static uint32_t cookie(const struct segment *s, uint32_t irs, uint32_t period, unsigned size) {
    uint64_t key[2] = {net->hash_key[0] ^ irs, net->hash_key[1] + period};
    uint64_t h = keyed_hash(key, (uint64_t)s->to.ip << 32 | s->from.ip,
                            (uint64_t)s->to.portno << 32 | (uint64_t)s->from.portno << 16 | size);
    return (uint32_t)h << 8 | (period & 63) << 2 | size;
}

static void answer_with_cookie(const struct segment *s) {
    unsigned size = 3;
    while (size && cookie_sizes[size] > (s->max_segment ? s->max_segment : TCP_MSS_DEFAULT)) size--;
    struct tcp_request r = {.local = s->to, .remote = s->from, .irs = s->sequence, .scale = -1};
    r.iss = cookie(s, s->sequence, (uint32_t)(net_now() / COOKIE_PERIOD), size);
    net->cookies_until = net_now() + 2 * COOKIE_PERIOD;
    net->counters.cookies++;
    tcp_send_syn_ack(&r);
}

static bool check_cookie(const struct segment *s, struct tcp_request *r) {
    if (net_now() >= net->cookies_until) return false;
    uint32_t iss = s->acknowledgement - 1, now = (uint32_t)(net_now() / COOKIE_PERIOD);
    for (uint32_t period = now; period + 2 > now; period--) {
        if (iss != cookie(s, s->sequence - 1, period, iss & 3)) continue;
        *r = (struct tcp_request){.local = s->to,
                                  .remote = s->from,
                                  .iss = iss,
                                  .irs = s->sequence - 1,
                                  .max_segment = cookie_sizes[iss & 3],
                                  .scale = -1,
                                  .window = s->window};
        return true;
    }
    return false;
}

/* ---- the two halves of a handshake --------------------------------------------------------- */
static void syn_arrived(struct tcp_listener *l, const struct segment *s) {
    if (l->queued >= l->backlog) return;
    struct tcp_request *r = net->request_count < REQUESTS_MAX ? object_alloc(sizeof *r) : NULL;
    if (!r) {
        answer_with_cookie(s);
        return;
    }
    *r = (struct tcp_request){.listener = l,
                              .local = s->to,
                              .remote = s->from,
                              .irs = s->sequence,
                              .ts_recent = s->ts_value,
                              .window = s->window,
                              .max_segment = s->max_segment,
                              .scale = s->scale,
                              .sack = s->sack_permitted,
                              .timestamps = s->has_timestamp};
    r->iss = tcp_initial_sequence(s->to, s->from);
    r->timer.fire = request_due;
    struct tcp_request **bucket = &net->requests[pair_of(s->to, s->from) % REQUEST_BUCKETS];
    if ((r->next = *bucket)) r->next->link = &r->next;
    *(r->link = bucket) = r;
    net->request_count++;
    tcp_send_syn_ack(r);
    deadline_set(&r->timer, net_now() + NS_PER_SECOND);
}

static bool complete(struct tcp_listener *l, const struct tcp_request *r, struct segment *s) {
    if (l->queued >= l->backlog || net->waiting_count >= WAITING_MAX) return false;
    struct tcp *t = tcp_new(r->local, r->remote, &l->socket->options);
    if (!t) return false;
    struct segment syn = {.sequence = r->irs,
                          .max_segment = r->max_segment,
                          .scale = r->scale,
                          .window = r->window,
                          .sack_permitted = r->sack,
                          .has_timestamp = r->timestamps,
                          .ts_value = r->ts_recent};
    t->iss = 0x100000000ull + r->iss;
    t->una = t->nxt = t->send.start = t->send.end = t->small_end = t->iss + 1;
    t->ts_offset = 0;
    tcp_negotiate(t, &syn);
    t->state = TCP_ESTABLISHED;
    t->listener = l;
    t->window_ack = t->una;
    tcp_enter(t);
    tcp_queue_add(t, &l->last);
    l->queued++, net->waiting_count++;
    tcp_segment(t, s);
    net_socket_changed(l->socket);
    if (t->state == TCP_CLOSED)
        tcp_release(t);
    else
        tcp_arm(t);
    return true;
}

bool tcp_listener_input(struct segment *s) {
    struct tcp_request *r = find_request(s), made;
    struct tcp_listener *l = r ? r->listener : tcp_listener_for(s->to);
    if (!l) return false;
    if (s->flags & TCP_RST) {
        if (r && s->sequence == r->irs + 1) forget_request(r);
        return true;
    }
    if (s->flags & TCP_SYN) {
        if (s->flags & TCP_ACK) return false;
        if (r)
            tcp_send_syn_ack(r);
        else
            syn_arrived(l, s);
        return true;
    }
    if (!(s->flags & TCP_ACK)) return true;
    if (!r) return check_cookie(s, &made) ? complete(l, &made, s) || true : false;
    if (s->acknowledgement != r->iss + 1) return false;
    if (s->sequence - (r->irs + 1) > RECEIVE_FIRST) return true;
    made = *r;
    if (complete(l, &made, s)) {
        r = find_request(s);
        if (r) forget_request(r);
    }
    return true;
}

void tcp_accept_remove(struct tcp *t) {
    tcp_queue_remove(t, &t->listener->last);
    net->unaccepted_pages -= t->receive.pages;
    t->listener->queued--, net->waiting_count--;
    t->listener = NULL;
}

void tcp_listener_close(struct tcp_listener *l) {
    for (unsigned i = 0; i < REQUEST_BUCKETS; i++)
        for (struct tcp_request *r = net->requests[i], *next; r; r = next) {
            next = r->next;
            if (r->listener == l) forget_request(r);
        }
    while (l->first) {
        struct tcp *t = l->first;
        tcp_abort(t, 0);
        tcp_release(t);
    }
    object_free(l, sizeof *l);
}
