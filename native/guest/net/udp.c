/*
 * UDP (RFC 768): datagrams in a bounded queue per socket. Over the loopback they may be as long as on
 * Linux; those that no packet there holds skip IP.
 */
#include "stack.h"
#include <linux/errno.h>
#include <linux/poll.h>

#define MSG_PEEK 0x2
#define MSG_TRUNC 0x20
#define LONGEST (65535u - IP_HEADER - sizeof(struct udp_header))
#define SHORT 3072u /* longer ones lie in pages: objects above a page need pages side by side */

struct datagram {
    struct datagram *next;
    struct endpoint from;
    size_t bytes;
    struct buffer pages;
    uint8_t data[]; /* of a short one */
};

static size_t object_bytes(size_t bytes) { return sizeof(struct datagram) + (bytes <= SHORT ? bytes : 0); }

static void free_datagram(struct datagram *d) {
    buffer_free(&d->pages);
    object_free(d, object_bytes(d->bytes));
}

static struct datagram *new_datagram(const uint8_t *from, size_t bytes) {
    struct datagram *d = object_alloc(object_bytes(bytes));
    if (!d) return NULL;
    d->bytes = bytes;
    if (bytes <= SHORT) {
        memcpy(d->data, from, bytes);
        return d;
    }
    if (buffer_put(&d->pages, 0, from, bytes) == bytes) return d;
    free_datagram(d);
    return NULL;
}

static void take_off(struct socket *s) {
    struct datagram *d = s->first;
    if (!(s->first = d->next)) s->last = &s->first;
    s->queued -= (uint32_t)(sizeof *d + d->bytes);
    free_datagram(d);
}

static bool matches(const struct socket *s, struct endpoint to, struct endpoint from) {
    if (s->local.portno != to.portno || (s->local.ip && s->local.ip != to.ip && !ip_is_broadcast(to.ip)))
        return false;
    return !s->remote.portno || (s->remote.portno == from.portno && s->remote.ip == from.ip);
}

static struct socket *receiver(struct endpoint to, struct endpoint from) {
    struct socket *s = NULL;
    for (struct socket *each = net->udp_bound; each; each = each->next)
        if (matches(each, to, from) && (!s || each->remote.portno > s->remote.portno)) s = each;
    return s;
}

static void deliver(struct socket *s, struct endpoint from, const uint8_t *bytes, size_t length) {
    struct datagram *d = NULL;
    if (s->queued + sizeof *d + length <= s->options.receive_bytes && !s->shut_receive)
        d = new_datagram(bytes, length);
    if (!d) {
        net->counters.dropped++;
        return;
    }
    d->from = from;
    *s->last = d;
    s->last = &d->next;
    s->queued += (uint32_t)(sizeof *d + length);
    net_socket_changed(s);
}

void udp_input(const struct ip_header *ip, const uint8_t *bytes, size_t length) {
    const struct udp_header *header = (const void *)bytes;
    if (length < sizeof *header) return;
    size_t whole = be16(header->length);
    if (whole < sizeof *header || whole > length) return;
    struct endpoint from = {be32(ip->source), be16(header->source)};
    struct endpoint to = {be32(ip->destination), be16(header->destination)};
    if (header->checksum && checksum(sum_bytes(bytes, whole, sum_pseudo(from.ip, to.ip, IP_UDP, whole)))) {
        net->counters.bad_checksum++;
        return;
    }
    if (from.portno == 67 && to.portno == 68) dhcp_input(bytes + sizeof *header, whole - sizeof *header);
    struct socket *s = receiver(to, from);
    if (s) {
        deliver(s, from, bytes + sizeof *header, whole - sizeof *header);
    } else if (!ip_is_broadcast(to.ip)) {
        size_t header_bytes = (size_t)(bytes - (const uint8_t *)ip);
        icmp_unreachable_port(ip, header_bytes + length);
    }
}

void udp_refused(struct endpoint from, struct endpoint to) {
    for (struct socket *s = net->udp_bound; s; s = s->next)
        if (s->local.portno == from.portno && s->remote.portno == to.portno && s->remote.ip == to.ip) {
            s->error = ECONNREFUSED;
            net_socket_changed(s);
        }
}

static long udp_bind(struct socket *s, struct endpoint to) { return socket_bind_to(s, &net->udp_bound, to); }

static long udp_connect(struct socket *s, struct endpoint to) {
    if (!to.ip) to.ip = 0x7f000001;
    uint32_t source = ip_source_for(to.ip);
    if (!source) return -ENETUNREACH;
    if (!s->bound) {
        long error = socket_bind_any(s, &net->udp_bound, (struct endpoint){source, 0});
        if (error) return error;
    }
    if (!s->local.ip) s->local.ip = source;
    s->remote = to;
    return 0;
}

static long udp_disconnect(struct socket *s) {
    s->remote = (struct endpoint){0, 0};
    return 0;
}

static long udp_send(struct socket *s, const void *from, size_t bytes, int flags, const struct endpoint *to) {
    (void)flags;
    if (s->error) return -socket_take_error(s);
    if (s->shut_send) return -EPIPE;
    if (!to && !s->remote.portno) return -EDESTADDRREQ;
    struct endpoint there = to ? *to : s->remote;
    if (!there.ip) there.ip = 0x7f000001;
    if (!there.portno) return -EINVAL;
    if (ip_is_broadcast(there.ip) && !s->options.broadcast) return -EACCES;
    uint32_t source = s->local.ip ? s->local.ip : ip_source_for(there.ip);
    if (!source) return -ENETUNREACH;
    bool is_long = bytes + IP_HEADER + sizeof(struct udp_header) > ip_mtu(there.ip);
    if (is_long && (bytes > LONGEST || !ip_is_local(there.ip))) return -EMSGSIZE;
    if (!s->bound) {
        long error = socket_bind_any(s, &net->udp_bound, (struct endpoint){0, 0});
        if (error) return error;
    }
    if (is_long) {
        struct endpoint here = {source, s->local.portno};
        struct socket *other = receiver(there, here);
        if (other)
            deliver(other, here, from, bytes);
        else
            udp_refused(here, there);
        return (long)bytes;
    }
    uint8_t *room = ip_begin(there.ip);
    if (!room) return (long)bytes; /* as lost as on any other link that is full */
    struct udp_header *header = (void *)room;
    size_t length = sizeof *header + bytes;
    *header = (struct udp_header){be16(s->local.portno), be16(there.portno), be16((uint16_t)length), 0};
    uint64_t sum = sum_copy(room + sizeof *header, from, bytes, sum_pseudo(source, there.ip, IP_UDP, length));
    header->checksum = checksum(sum_bytes(header, sizeof *header, sum));
    if (!header->checksum) header->checksum = 0xffff;
    ip_send(room, length, IP_UDP, source, there.ip);
    return (long)bytes;
}

static long udp_receive(struct socket *s, void *to, size_t bytes, int flags, struct endpoint *from) {
    struct datagram *d = s->first;
    if (s->error) return -socket_take_error(s);
    if (!d) return s->shut_receive ? 0 : -EAGAIN;
    long whole = (long)d->bytes;
    size_t taken = min_u64(bytes, d->bytes);
    if (d->bytes <= SHORT)
        memcpy(to, d->data, taken);
    else
        buffer_get(&d->pages, 0, to, taken);
    if (from) *from = d->from;
    if (!(flags & MSG_PEEK)) take_off(s);
    return whole;
}

static long udp_shutdown(struct socket *s, int how) {
    if (!s->remote.portno) return -ENOTCONN;
    if (how != 1) s->shut_receive = true;
    if (how != 0) s->shut_send = true;
    net_socket_changed(s);
    return 0;
}

static unsigned udp_poll(struct socket *s) {
    return POLLOUT | (s->first || s->shut_receive ? POLLIN : 0) | (s->error ? POLLERR : 0) |
           (s->shut_receive ? POLLRDHUP : 0);
}

static void udp_close(struct socket *s) {
    while (s->first) take_off(s);
}

static long udp_unread(struct socket *s) { return s->first ? (long)s->first->bytes : 0; }

const struct socket_ops udp_ops = {.bind = udp_bind,
                                   .connect = udp_connect,
                                   .disconnect = udp_disconnect,
                                   .send = udp_send,
                                   .receive = udp_receive,
                                   .shutdown = udp_shutdown,
                                   .poll = udp_poll,
                                   .close = udp_close,
                                   .unread = udp_unread};
