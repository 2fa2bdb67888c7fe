/* Unix-domain stream sockets: two buffers between two ends, and names to find a listener by. */
#include "stack.h"
#include <linux/errno.h>
#include <linux/poll.h>

#define UNIX_BYTES 212992u
#define MSG_PEEK 0x2

struct unix_end {
    struct socket *socket;                          /* NULL: not accepted yet */
    struct unix_end *peer;                          /* NULL: never connected, or the other side is closed */
    struct unix_end *waiting, **waiting_end, *next; /* listener: connections to accept */
    struct unix_end *next_name, **name_link;
    struct unix_name name, peer_name;
    struct buffer in;
    uint32_t queued, backlog;
    bool connected, ended; /* ended: the peer sends no more */
};

static void changed(struct unix_end *e) {
    if (e && e->socket) net_socket_changed(e->socket);
}

static struct unix_end *end_new(struct socket *s) {
    struct unix_end *e = object_alloc(sizeof *e);
    if (!e) return NULL;
    e->waiting_end = &e->waiting;
    e->socket = s;
    if (s) s->unix_end = e;
    return e;
}

static struct unix_end *end_of(struct socket *s) { return s->unix_end ? s->unix_end : end_new(s); }

static void join(struct unix_end *a, struct unix_end *b) {
    a->peer = b, b->peer = a;
    a->connected = b->connected = true;
}

static void hang_up(struct unix_end *e) {
    struct unix_end *peer = e->peer;
    if (e->name_link) {
        if ((*e->name_link = e->next_name)) e->next_name->name_link = e->name_link;
    }
    if (peer) {
        if (e->in.end > e->in.start && peer->socket) peer->socket->error = ECONNRESET;
        peer->peer = NULL;
        peer->ended = true;
    }
    while (e->waiting) {
        struct unix_end *w = e->waiting;
        e->waiting = w->next;
        hang_up(w);
    }
    buffer_free(&e->in);
    object_free(e, sizeof *e);
    changed(peer);
}

long unix_pair(int type, struct socket *pair[2]) {
    if (type != 1) return -ESOCKTNOSUPPORT;
    pair[0] = socket_new(1, type, &unix_ops);
    pair[1] = pair[0] ? socket_new(1, type, &unix_ops) : NULL;
    struct unix_end *a = pair[1] ? end_new(pair[0]) : NULL, *b = a ? end_new(pair[1]) : NULL;
    if (b) {
        join(a, b);
        return 0;
    }
    if (pair[1]) socket_close(pair[1]);
    if (pair[0]) socket_close(pair[0]);
    return -ENOMEM;
}

static bool same_name(const struct unix_name *a, const struct unix_name *b) {
    if (a->inode || b->inode) return a->inode == b->inode;
    return a->length == b->length && !memcmp(a->bytes, b->bytes, a->length);
}

static struct unix_end *find(const struct unix_name *name) {
    for (struct unix_end *e = net->unix_names; e; e = e->next_name)
        if (same_name(&e->name, name)) return e;
    return NULL;
}

/* An empty name asks for one: five digits after the zero byte, as Linux gives. */
long unix_bind(struct socket *s, const struct unix_name *name) {
    static uint32_t last;
    struct unix_end *e = end_of(s);
    if (!e) return -ENOMEM;
    if (s->bound) return -EINVAL;
    e->name = *name;
    if (!name->inode && !name->length) {
        e->name.length = 6;
        format(e->name.bytes + 1, 6, "%05x", ++last & 0xfffff);
    } else if (find(name)) {
        return -EADDRINUSE;
    }
    s->bound = true;
    if ((e->next_name = net->unix_names)) e->next_name->name_link = &e->next_name;
    *(e->name_link = &net->unix_names) = e;
    return 0;
}

long unix_connect(struct socket *s, const struct unix_name *name) {
    struct unix_end *e = end_of(s), *l = find(name);
    if (!e) return -ENOMEM;
    if (e->connected) return -EISCONN;
    if (!l || !l->backlog) return -ECONNREFUSED;
    if (l->queued >= l->backlog) return -EAGAIN;
    struct unix_end *other = end_new(NULL);
    if (!other) return -ENOMEM;
    join(e, other);
    other->name = l->name;
    e->peer_name = l->name;
    other->peer_name = e->name;
    *l->waiting_end = other;
    l->waiting_end = &other->next;
    l->queued++;
    changed(l);
    return 0;
}

bool unix_is_bound(const struct socket *s) { return s->bound; }
bool unix_is_connected(const struct socket *s) { return s->unix_end && s->unix_end->connected; }

void unix_name_of(const struct socket *s, bool peer, struct unix_name *name) {
    const struct unix_end *e = s->unix_end;
    *name = !e ? (struct unix_name){0} : peer ? e->peer_name : e->name;
}

static long unix_listen(struct socket *s, int backlog) {
    if (!s->bound) return -EINVAL;
    s->listening = true;
    s->unix_end->backlog = backlog < 0 || backlog > 4096 ? 4096 : (uint32_t)backlog + 1;
    return 0;
}

static long unix_accept(struct socket *s, struct socket **accepted) {
    if (!s->listening) return -EINVAL;
    struct unix_end *l = s->unix_end, *e = l->waiting;
    if (!e) return -EAGAIN;
    struct socket *made = socket_new(1, s->type, &unix_ops);
    if (!made) return -ENOMEM;
    if (!(l->waiting = e->next)) l->waiting_end = &l->waiting;
    l->queued--;
    made->unix_end = e;
    e->socket = made;
    *accepted = made;
    changed(l);
    return 0;
}

static long unix_send(struct socket *s, const void *from, size_t bytes, int flags,
                      const struct endpoint *to) {
    struct unix_end *e = s->unix_end, *peer = e ? e->peer : NULL;
    (void)flags, (void)to;
    if (s->error) return -socket_take_error(s);
    if (!e || !e->connected) return -ENOTCONN;
    if (s->shut_send || !peer || (peer->socket && peer->socket->shut_receive)) return -EPIPE;
    uint64_t held = peer->in.end - peer->in.start;
    size_t n = held < UNIX_BYTES ? min_u64(bytes, UNIX_BYTES - held) : 0;
    if (bytes && !n) return -EAGAIN;
    n = buffer_put(&peer->in, peer->in.end, from, n);
    if (bytes && !n) return -ENOBUFS;
    peer->in.end += n;
    changed(peer);
    return (long)n;
}

static long unix_receive(struct socket *s, void *to, size_t bytes, int flags, struct endpoint *from) {
    struct unix_end *e = s->unix_end;
    (void)from;
    if (!e || !e->connected) return -EINVAL;
    size_t n = min_u64(bytes, e->in.end - e->in.start);
    if (!n) {
        if (s->error) return -socket_take_error(s);
        return e->ended || s->shut_receive || !bytes ? 0 : -EAGAIN;
    }
    buffer_get(&e->in, e->in.start, to, n);
    if (flags & MSG_PEEK) return (long)n;
    buffer_drop(&e->in, e->in.start + n);
    changed(e->peer);
    return (long)n;
}

static long unix_shutdown(struct socket *s, int how) {
    struct unix_end *e = s->unix_end;
    if (!e || !e->connected) return -ENOTCONN;
    if (how != 1) s->shut_receive = true;
    if (how != 0) {
        s->shut_send = true;
        if (e->peer) e->peer->ended = true;
    }
    changed(e), changed(e->peer);
    return 0;
}

static unsigned unix_poll(struct socket *s) {
    struct unix_end *e = s->unix_end;
    if (s->listening) return e->waiting ? POLLIN : 0;
    if (!e || !e->connected) return POLLOUT | POLLHUP;
    unsigned ready = s->error ? POLLERR : 0;
    if (e->in.end > e->in.start || e->ended || s->shut_receive) ready |= POLLIN;
    if (e->ended || s->shut_receive) ready |= POLLRDHUP;
    if (!e->peer || (e->ended && s->shut_send)) ready |= POLLHUP;
    if (!e->peer || s->shut_send || e->peer->in.end - e->peer->in.start < UNIX_BYTES / 2) ready |= POLLOUT;
    return ready;
}

static void unix_close(struct socket *s) {
    if (s->unix_end) hang_up(s->unix_end);
}

static long unix_unread(struct socket *s) {
    return s->unix_end ? (long)(s->unix_end->in.end - s->unix_end->in.start) : 0;
}

const struct socket_ops unix_ops = {.listen = unix_listen,
                                    .accept = unix_accept,
                                    .send = unix_send,
                                    .receive = unix_receive,
                                    .shutdown = unix_shutdown,
                                    .poll = unix_poll,
                                    .close = unix_close,
                                    .unread = unix_unread};
