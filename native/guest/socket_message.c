/* send and receive with addresses and in pieces: sendto, recvfrom, sendmsg, recvmsg and their plurals. */
#include "socket_calls.h"
#include <linux/uio.h>

struct message { /* struct msghdr */
    uint64_t name;
    uint32_t name_bytes, pad;
    uint64_t pieces, count, control, control_bytes;
    int32_t flags, pad2;
};
#define DATAGRAM_MAX 65536u
static uint8_t whole[DATAGRAM_MAX]; /* a datagram in pieces; filled and emptied without a wait between */

long sys_sendto(int fd, uint64_t at, uint64_t bytes, int flags, uint64_t name, uint64_t name_bytes) {
    struct file *file;
    struct socket *s;
    struct address address;
    long error = socket_get(fd, &file, &s);
    if (!error && name) error = address_in(&address, name, name_bytes);
    if (error) return error;
    bool named = name && socket_type(s) != SOCK_STREAM;
    if (named && address.family != AF_INET) return -EAFNOSUPPORT;
    return send_bytes(file, at, bytes, flags, named ? &address.endpoint : NULL);
}

long sys_recvfrom(int fd, uint64_t to, uint64_t bytes, int flags, uint64_t name, uint64_t size_at) {
    struct file *file;
    struct socket *s;
    struct address address = {0};
    long n = socket_get(fd, &file, &s);
    if (n) return n;
    n = receive_bytes(file, to, bytes, flags, &address.endpoint);
    if (n < 0 || !name) return n;
    if (socket_type(s) == SOCK_STREAM) {
        uint32_t none = 0;
        return copy_out(size_at, &none, sizeof none) ?: n;
    }
    address.family = AF_INET;
    long error = address_out(&address, name, size_at);
    if (error) return error;
    return flags & MSG_TRUNC ? n : (long)min_u64((uint64_t)n, bytes);
}

static long message_in(struct message *m, uint64_t at) {
    if (copy_in(m, at, sizeof *m)) return -EFAULT;
    if (m->count > UIO_MAXIOV) return -EMSGSIZE;
    return user_ok(m->pieces, m->count * sizeof(struct iovec), false) ? 0 : -EFAULT;
}

static long send_datagram(struct file *file, const struct message *m, int flags, const struct endpoint *to) {
    const struct iovec *piece = (const void *)m->pieces;
    size_t length = 0;
    for (uint64_t i = 0; i < m->count; length += piece[i++].iov_len) {
        if (piece[i].iov_len > sizeof whole - length) return -EMSGSIZE;
        if (copy_in(whole + length, (uint64_t)piece[i].iov_base, piece[i].iov_len)) return -EFAULT;
    }
    return socket_send(file->inode->socket, whole, length, flags, to);
}

static long send_message(int fd, uint64_t at, int flags) {
    struct file *file;
    struct socket *s;
    struct message m;
    struct address address;
    long error = socket_get(fd, &file, &s) ?: message_in(&m, at);
    if (!error && m.name) error = address_in(&address, m.name, m.name_bytes);
    if (error) return error;
    if (socket_type(s) != SOCK_STREAM)
        return send_datagram(file, &m, flags, m.name ? &address.endpoint : NULL);
    long total = 0;
    for (uint64_t i = 0; i < m.count; i++) {
        if (!user_ok(m.pieces, m.count * sizeof(struct iovec), false)) return -EFAULT;
        struct iovec piece = ((const struct iovec *)m.pieces)[i];
        if (!piece.iov_len) continue;
        int more = i + 1 < m.count ? 0x8000 /* MSG_MORE */ : 0;
        long n = send_bytes(file, (uint64_t)piece.iov_base, piece.iov_len, flags | more, NULL);
        if (n < 0) return total ? total : n;
        total += n;
        if ((uint64_t)n < piece.iov_len) break;
    }
    return total;
}

long sys_sendmsg(int fd, uint64_t at, int flags) { return send_message(fd, at, flags); }

static long receive_datagram(struct file *file, struct message *m, int flags, struct endpoint *from) {
    const struct iovec *piece = (const void *)m->pieces;
    long n = socket_receive(file->inode->socket, whole, sizeof whole, flags, from);
    if (n < 0) return n;
    size_t length = min_u64((uint64_t)n, sizeof whole), done = 0;
    for (uint64_t i = 0; i < m->count && done < length; i++) {
        size_t part = min_u64(piece[i].iov_len, length - done);
        if (copy_out((uint64_t)piece[i].iov_base, whole + done, part)) return -EFAULT;
        done += part;
    }
    m->flags = done < length ? MSG_TRUNC : 0;
    return flags & MSG_TRUNC ? n : (long)done;
}

static long receive_stream(struct file *file, struct message *m, int flags) {
    long total = 0;
    for (uint64_t i = 0; i < m->count; i++) {
        if (!user_ok(m->pieces, m->count * sizeof(struct iovec), false)) return -EFAULT;
        struct iovec piece = ((const struct iovec *)m->pieces)[i];
        if (!piece.iov_len) continue;
        int now = total && !(flags & MSG_WAITALL) ? MSG_DONTWAIT : 0;
        long n = receive_bytes(file, (uint64_t)piece.iov_base, piece.iov_len, flags | now, NULL);
        if (n < 0) return total ? total : n;
        total += n;
        if ((uint64_t)n < piece.iov_len) break;
    }
    return total;
}

static long receive_message(int fd, uint64_t at, int flags) {
    struct file *file;
    struct socket *s;
    struct message m;
    struct address address = {.family = AF_INET};
    long n = socket_get(fd, &file, &s) ?: message_in(&m, at);
    if (n) return n;
    bool stream = socket_type(s) == SOCK_STREAM;
    m.flags = 0;
    if (!stream) { /* wait without taking anything, then take it in one go */
        while ((n = receive_datagram(file, &m, flags, &address.endpoint)) == -EAGAIN) {
            if (flags & MSG_DONTWAIT || file->flags & O_NONBLOCK) return n;
            if ((n = socket_wait(file, POLLIN))) return n;
        }
    } else {
        n = receive_stream(file, &m, flags);
    }
    if (n < 0) return n;
    uint64_t size_at = at + offsetof(struct message, name_bytes);
    uint32_t none = 0;
    m.control_bytes = 0;
    if (copy_out(at + offsetof(struct message, control_bytes), &m.control_bytes, sizeof m.control_bytes) ||
        copy_out(at + offsetof(struct message, flags), &m.flags, sizeof m.flags))
        return -EFAULT;
    long error = !m.name  ? 0
                 : stream ? copy_out(size_at, &none, sizeof none)
                          : address_out(&address, m.name, size_at);
    return error ? error : n;
}

long sys_recvmsg(int fd, uint64_t at, int flags) { return receive_message(fd, at, flags); }

/* An array of messages, each with its length behind it. */
static long many(int fd, uint64_t at, unsigned count, int flags,
                 long (*one)(int fd, uint64_t at, int flags)) {
    unsigned done = 0;
    count = (unsigned)min_u64(count, UIO_MAXIOV);
    for (; done < count; done++, at += sizeof(struct message) + 8) {
        long n = one(fd, at, flags);
        uint32_t length = (uint32_t)n;
        if (n < 0) return done ? (long)done : n;
        if (copy_out(at + sizeof(struct message), &length, sizeof length)) return done ? (long)done : -EFAULT;
        if (flags & MSG_WAITFORONE) flags |= MSG_DONTWAIT;
    }
    return (long)done;
}

long sys_sendmmsg(int fd, uint64_t at, unsigned count, int flags) {
    return many(fd, at, count, flags, send_message);
}
long sys_recvmmsg(int fd, uint64_t at, unsigned count, int flags) {
    return many(fd, at, count, flags, receive_message);
}
