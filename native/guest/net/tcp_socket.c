/* TCP as sockets see it. */
#include "tcp.h"
#include <linux/errno.h>
#include <linux/poll.h>

#define MSG_PEEK 0x2
#define MSG_OOB 0x1
#define MSG_MORE 0x8000
#define MSG_TRUNC 0x20

static long tcp_bind(struct socket *s, struct endpoint to) { return socket_bind_to(s, &net->tcp_bound, to); }

static long tcp_listen(struct socket *s, int backlog) {
    if (s->tcp) return -EINVAL;
    if (backlog < 0 || backlog > 4096) backlog = 4096;
    if (!s->bound) {
        long error = socket_bind_any(s, &net->tcp_bound, (struct endpoint){0, 0});
        if (error) return error;
    }
    if (!s->listener) {
        struct tcp_listener *other = tcp_listener_for(s->local);
        if (other && other->socket->local.ip == s->local.ip) return -EADDRINUSE;
        if (!(s->listener = object_alloc(sizeof *s->listener))) return -ENOMEM;
        s->listener->socket = s;
        s->listener->last = &s->listener->first;
        s->listening = true;
    }
    s->listener->backlog = (uint32_t)backlog + 1;
    return 0;
}

static long tcp_accept(struct socket *s, struct socket **accepted) {
    if (!s->listener) return -EINVAL;
    struct tcp *t = s->listener->first;
    if (!t) return -EAGAIN;
    struct socket *made = socket_new(s->domain, s->type, &tcp_ops);
    if (!made) return -ENOMEM;
    tcp_accept_remove(t);
    made->options = s->options;
    made->local = t->local;
    made->remote = t->remote;
    made->tcp = t;
    t->socket = made;
    t->idle_at = t->state == TCP_TIME_WAIT ? t->idle_at : tcp_idle_time(t);
    tcp_arm(t);
    *accepted = made;
    return 0;
}

static long tcp_connect(struct socket *s, struct endpoint to) {
    if (s->listener) return -EISCONN;
    if (s->tcp) {
        if (s->tcp->state == TCP_SYN_SENT || s->tcp->state == TCP_SYN_RECEIVED) return -EALREADY;
        int error = socket_take_error(s);
        if (s->tcp->state != TCP_CLOSED) return -EISCONN;
        if (error) return -error;
        tcp_release((s->tcp->socket = NULL, s->tcp));
        s->tcp = NULL;
    }
    if (!to.ip) to.ip = 0x7f000001;
    if (!to.portno || ip_is_broadcast(to.ip) || to.ip >> 28 >= 14) return -ENETUNREACH;
    uint32_t source = s->local.ip ? s->local.ip : ip_source_for(to.ip);
    if (!source) return -ENETUNREACH;
    if (!s->bound) {
        s->remote = to;
        long error = socket_bind_any(s, &net->tcp_bound, (struct endpoint){source, 0});
        if (error) return error;
    }
    s->local.ip = source;
    if (tcp_find(s->local, to)) return -EADDRNOTAVAIL;
    struct tcp *t = tcp_new(s->local, to, &s->options);
    if (!t) return -ENOMEM;
    net_random(&t->ts_offset, sizeof t->ts_offset);
    s->remote = to;
    s->tcp = t;
    t->socket = s;
    t->state = TCP_SYN_SENT;
    t->rtt_at = net_now();
    tcp_enter(t);
    if (!tcp_output(t)) tcp_want_output(t);
    return -EINPROGRESS;
}

static uint64_t send_limit(const struct socket *s) {
    if (s->options.user_send) return s->options.send_bytes;
    return min_u64(max_u64(SEND_FIRST, 2ull * s->tcp->cwnd), SEND_MAX);
}

static uint64_t send_room(const struct socket *s) {
    uint64_t held = s->tcp->send.end - s->tcp->send.start, limit = send_limit(s);
    return limit > held ? limit - held : 0;
}

static long tcp_send(struct socket *s, const void *from, size_t bytes, int flags, const struct endpoint *to) {
    struct tcp *t = s->tcp;
    (void)to;
    if (s->error) return -socket_take_error(s);
    if (s->shut_send || !t) return -EPIPE;
    if (t->state == TCP_SYN_SENT || t->state == TCP_SYN_RECEIVED) return -EAGAIN;
    if (t->state != TCP_ESTABLISHED && t->state != TCP_CLOSE_WAIT) return -EPIPE;
    if (flags & MSG_OOB) return -EOPNOTSUPP;
    size_t n = min_u64(bytes, send_room(s));
    if (bytes && !n) return -EAGAIN;
    n = buffer_put(&t->send, t->send.end, from, n);
    if (bytes && !n) return net->pages >= net->pages_max ? -EAGAIN : -ENOMEM;
    t->send.end += n;
    bool corked = t->corked;
    if (flags & MSG_MORE && n == bytes) t->corked = true;
    if (!tcp_output(t)) tcp_want_output(t);
    t->corked = corked;
    return (long)n;
}

/* The program took bytes: say so when the peer could wait for it. */
static void window_opened(struct tcp *t) {
    if (t->state < TCP_ESTABLISHED || t->fin_received) return;
    uint64_t announced = t->rcv_edge > t->rcv_nxt ? t->rcv_edge - t->rcv_nxt : 0;
    uint64_t room = t->receive_limit - min_u64(t->receive_limit, t->receive.end - t->receive.start);
    if (room < 2 * announced || room < announced + min_u64(t->receive_limit / 2, t->mss)) return;
    t->ack_now = true;
    if (!tcp_output(t)) tcp_want_output(t);
}

static long tcp_receive(struct socket *s, void *to, size_t bytes, int flags, struct endpoint *from) {
    struct tcp *t = s->tcp;
    if (!t) return -ENOTCONN;
    if (flags & MSG_OOB) return -EINVAL;
    if (from) *from = s->remote;
    size_t there = t->receive.end - t->receive.start, n = min_u64(bytes, there);
    if (there) {
        if (!(flags & MSG_TRUNC)) buffer_get(&t->receive, t->receive.start, to, n);
        if (flags & MSG_PEEK) return (long)n;
        buffer_drop(&t->receive, t->receive.start + n);
        window_opened(t);
        return (long)n;
    }
    if (s->error) return -socket_take_error(s);
    if (t->state == TCP_SYN_SENT || t->state == TCP_SYN_RECEIVED) return -EAGAIN;
    if (t->fin_received || s->shut_receive || t->state == TCP_CLOSED || !bytes) return 0;
    return -EAGAIN;
}

static void queue_fin(struct tcp *t) {
    if (t->fin_queued || t->state == TCP_CLOSED) return;
    if (t->state == TCP_ESTABLISHED)
        t->state = TCP_FIN_WAIT_1;
    else if (t->state == TCP_CLOSE_WAIT)
        t->state = TCP_LAST_ACK;
    else if (t->state != TCP_SYN_SENT && t->state != TCP_SYN_RECEIVED)
        return;
    t->fin_queued = true;
    if (t->state >= TCP_ESTABLISHED && !tcp_output(t)) tcp_want_output(t);
}

static long tcp_shutdown(struct socket *s, int how) {
    struct tcp *t = s->tcp;
    if (s->listener && how != 1) { /* as Linux: no more connections */
        tcp_listener_close(s->listener);
        s->listener = NULL;
        s->listening = false;
        return 0;
    }
    if (!t || t->state == TCP_CLOSED || t->state == TCP_SYN_SENT) return -ENOTCONN;
    if (how != 1) {
        s->shut_receive = t->receive_shut = true;
    }
    if (how != 0) {
        s->shut_send = true;
        queue_fin(t);
    }
    net_socket_changed(s);
    return 0;
}

static unsigned tcp_poll(struct socket *s) {
    struct tcp *t = s->tcp;
    if (s->listener) return s->listener->first ? POLLIN : 0;
    if (!t) return POLLOUT | POLLHUP;
    unsigned ready = s->error ? POLLERR | POLLIN | POLLOUT : 0;
    bool sending = t->state == TCP_ESTABLISHED || t->state == TCP_CLOSE_WAIT;
    bool ended = t->fin_received || s->shut_receive;
    if (t->state == TCP_SYN_SENT || t->state == TCP_SYN_RECEIVED) return ready;
    if (t->receive.end > t->receive.start || ended || t->state == TCP_CLOSED) ready |= POLLIN;
    if (ended || t->state == TCP_CLOSED) ready |= POLLRDHUP;
    if (!sending || send_room(s) >= send_limit(s) / 3) ready |= POLLOUT;
    if (t->state == TCP_CLOSED || (ended && !sending)) ready |= POLLHUP;
    return ready;
}

static void tcp_socket_close(struct socket *s) {
    struct tcp *t = s->tcp;
    if (s->listener) tcp_listener_close(s->listener);
    if (!t) return;
    bool unread = t->receive.end > t->receive.start && !s->shut_receive;
    bool reset = unread || (s->options.linger_on && !s->options.linger_s);
    if (t->state == TCP_SYN_SENT) {
        tcp_close(t, 0);
    } else if (t->state != TCP_CLOSED && t->state != TCP_TIME_WAIT && reset) {
        tcp_abort(t, 0); /* RFC 2525, 2.17: data was lost, and the peer must know */
    } else if (t->state != TCP_CLOSED) {
        queue_fin(t);
    }
    t->socket = NULL;
    if (t->state == TCP_CLOSED)
        tcp_release(t);
    else
        tcp_orphan(t);
}

static long tcp_unread(struct socket *s) {
    return s->listener ? -EINVAL : s->tcp ? (long)(s->tcp->receive.end - s->tcp->receive.start) : 0;
}

static long tcp_unsent(struct socket *s) {
    return s->listener ? -EINVAL : s->tcp ? (long)(s->tcp->send.end - s->tcp->send.start) : 0;
}

static void tcp_options_changed(struct socket *s) {
    struct tcp *t = s->tcp;
    if (!t || t->state == TCP_CLOSED) return;
    bool pushed = t->corked && !s->options.cork;
    t->nagle_off = s->options.no_delay;
    t->corked = s->options.cork;
    t->user_receive = s->options.user_receive;
    if (t->user_receive) t->receive_limit = (uint32_t)min_u64(s->options.receive_bytes, RECEIVE_MAX);
    if (t->state != TCP_TIME_WAIT) t->idle_at = tcp_idle_time(t);
    t->push_anyway = pushed;
    if (t->state >= TCP_ESTABLISHED && !tcp_output(t)) tcp_want_output(t);
    tcp_arm(t);
}

const struct socket_ops tcp_ops = {.bind = tcp_bind,
                                   .listen = tcp_listen,
                                   .accept = tcp_accept,
                                   .connect = tcp_connect,
                                   .send = tcp_send,
                                   .receive = tcp_receive,
                                   .shutdown = tcp_shutdown,
                                   .poll = tcp_poll,
                                   .close = tcp_socket_close,
                                   .unread = tcp_unread,
                                   .unsent = tcp_unsent,
                                   .options_changed = tcp_options_changed};
