/* Sockets, whatever their protocol: making, binding, and handing each call to its protocol. */
#include "stack.h"
#include <linux/errno.h>

#define AF_UNIX 1
#define AF_INET 2
#define STREAM 1
#define DATAGRAM 2
#define EPHEMERAL_FIRST 32768u
#define EPHEMERAL_COUNT 28232u

struct socket *socket_new(int domain, int type, const struct socket_ops *ops) {
    struct socket *s = object_alloc(sizeof *s);
    if (!s) return NULL;
    s->ops = ops;
    s->domain = (uint8_t)domain;
    s->type = (uint8_t)type;
    s->last = &s->first;
    s->options = (struct socket_options){.send_bytes = 212992,
                                         .receive_bytes = 212992,
                                         .keep_idle_s = 7200,
                                         .keep_interval_s = 75,
                                         .keep_count = 9,
                                         .ttl = 64,
                                         .receive_low = 1,
                                         .fin_wait_s = 60};
    return s;
}

void socket_free(struct socket *s) {
    socket_unbind(s);
    object_free(s, sizeof *s);
}

long socket_open(int domain, int type, int protocol, struct socket **opened) {
    const struct socket_ops *ops;
    if (domain != AF_INET && domain != AF_UNIX) return -EAFNOSUPPORT;
    if (domain == AF_UNIX) {
        if (type != STREAM) return -ESOCKTNOSUPPORT;
        ops = &unix_ops;
    } else if (type == STREAM && (!protocol || protocol == IP_TCP)) {
        ops = &tcp_ops;
    } else if (type == DATAGRAM && (!protocol || protocol == IP_UDP)) {
        ops = &udp_ops;
    } else {
        return type == 3 ? -EPERM : type == STREAM || type == DATAGRAM ? -EPROTONOSUPPORT : -ESOCKTNOSUPPORT;
    }
    *opened = socket_new(domain, type, ops);
    return *opened ? 0 : -ENOMEM;
}

int socket_take_error(struct socket *s) {
    int error = s->error;
    s->error = 0;
    return error;
}

/* ---- addresses ------------------------------------------------------------------------- */
static bool taken(const struct socket *s, struct socket *list, struct endpoint at) {
    for (const struct socket *other = list; other; other = other->next) {
        if (other == s || other->local.portno != at.portno) continue;
        if (other->local.ip && at.ip && other->local.ip != at.ip) continue;
        if (s->options.reuse_port && other->options.reuse_port) continue;
        if (s->options.reuse_address && other->options.reuse_address && !other->listening) continue;
        return true;
    }
    return false;
}

static void enter(struct socket *s, struct socket **list, struct endpoint at) {
    s->local = at;
    s->bound = true;
    if ((s->next = *list)) s->next->link = &s->next;
    *(s->link = list) = s;
}

long socket_bind_any(struct socket *s, struct socket **list, struct endpoint from) {
    uint32_t start;
    net_random(&start, sizeof start);
    for (uint32_t i = 0; i < EPHEMERAL_COUNT; i++) {
        from.portno = (uint16_t)(EPHEMERAL_FIRST + (start + i) % EPHEMERAL_COUNT);
        if (taken(s, *list, from)) continue;
        enter(s, list, from);
        return 0;
    }
    return -EADDRINUSE;
}

/* Connections that still close do not keep their listener's address: it is a server's restart. */
long socket_bind_to(struct socket *s, struct socket **list, struct endpoint to) {
    if (s->bound) return -EINVAL;
    if (to.ip && !ip_is_local(to.ip)) return -EADDRNOTAVAIL;
    if (!to.portno) return socket_bind_any(s, list, to);
    if (taken(s, *list, to)) return -EADDRINUSE;
    enter(s, list, to);
    return 0;
}

void socket_unbind(struct socket *s) {
    if (!s->link) return;
    if ((*s->link = s->next)) s->next->link = s->link;
    s->link = NULL;
    s->bound = false;
}

long socket_name(struct socket *s, struct endpoint *to) {
    *to = s->local;
    return 0;
}

long socket_peer(struct socket *s, struct endpoint *to) {
    *to = s->remote;
    return s->remote.portno && !(socket_poll(s) & 0x8 /* POLLERR */) ? 0 : -ENOTCONN;
}

/* ---- calls: whatever they set off on the loopback happens before they return ------------------ */
#define CALL(missing, name, ...)                                                                             \
    if (!s->ops->name) return missing;                                                                       \
    long result = s->ops->name(__VA_ARGS__);                                                                 \
    net_flush();                                                                                             \
    return result

long socket_bind(struct socket *s, struct endpoint to) { CALL(-EOPNOTSUPP, bind, s, to); }
long socket_listen(struct socket *s, int backlog) { CALL(-EOPNOTSUPP, listen, s, backlog); }
long socket_accept(struct socket *s, struct socket **accepted) { CALL(-EOPNOTSUPP, accept, s, accepted); }
long socket_disconnect(struct socket *s) { CALL(-EOPNOTSUPP, disconnect, s); }
long socket_shutdown(struct socket *s, int how) { CALL(-EOPNOTSUPP, shutdown, s, how); }

/* Over the loopback a connection can be there, or refused, at once. */
long socket_connect(struct socket *s, struct endpoint to) {
    long result = s->ops->connect ? s->ops->connect(s, to) : -EOPNOTSUPP;
    net_flush();
    if (result != -EINPROGRESS || !ip_is_local(to.ip ? to.ip : 0x7f000001)) return result;
    if (s->error) return -socket_take_error(s);
    return s->ops->poll(s) & 0x4 /* POLLOUT */ ? 0 : result;
}

long socket_send(struct socket *s, const void *from, size_t bytes, int flags, const struct endpoint *to) {
    CALL(-EOPNOTSUPP, send, s, from, bytes, flags, to);
}

long socket_receive(struct socket *s, void *to, size_t bytes, int flags, struct endpoint *from) {
    CALL(-EOPNOTSUPP, receive, s, to, bytes, flags, from);
}

unsigned socket_poll(struct socket *s) { return s->ops->poll(s); }
long socket_unread(struct socket *s) { return s->ops->unread(s); }
long socket_unsent(struct socket *s) { return s->ops->unsent ? s->ops->unsent(s) : 0; }

void socket_close(struct socket *s) {
    s->owner = NULL;
    s->ops->close(s);
    socket_free(s);
    net_flush();
}

uint64_t socket_timeout(struct socket *s, bool sending) {
    return sending ? s->options.send_timeout : s->options.receive_timeout;
}
int socket_domain(const struct socket *s) { return s->domain; }
int socket_type(const struct socket *s) { return s->type; }
void *socket_owner(const struct socket *s) { return s->owner; }
void socket_set_owner(struct socket *s, void *owner) { s->owner = owner; }
