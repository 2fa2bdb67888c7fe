/*
 * The system calls on sockets. The stack (net/) never waits; here a call that would block sleeps in
 * its file's queue until the stack says that the socket changed, and asks again.
 */
#include "socket_calls.h"
#include <asm/ioctls.h>

#define SOCK_FLAGS (O_NONBLOCK | O_CLOEXEC)
#define SIOCGIFCONF 0x8912

/* The one place that waits: until the file may be ready for one of the POLL bits. */
static long wait_for(struct file *file, unsigned events, uint64_t deadline) {
    file->uses++;
    long error = file_sleep(file, events, deadline);
    bool closed = file->uses == 1; /* by another thread, meanwhile */
    file_drop(file);
    return closed ? -EBADF : error == -ETIMEDOUT ? -EAGAIN : error;
}

/* Called by the stack at every change of a socket. Who is woken looks for itself what holds now. */
void net_socket_changed(struct socket *s) {
    struct file *file = socket_owner(s);
    if (file) queue_wake(file->data, ~0u);
}

static uint64_t deadline_of(struct socket *s, bool sending) {
    uint64_t ns = socket_timeout(s, sending);
    return ns ? clock_now() + ns : NEVER;
}

long socket_wait(struct file *file, unsigned events) {
    return wait_for(file, events, deadline_of(file->inode->socket, events & POLLOUT));
}

/* ---- files ------------------------------------------------------------------------------ */
long socket_get(int fd, struct file **file, struct socket **s) {
    if (!(*file = file_get(fd))) return -EBADF;
    if ((*file)->ops != &socket_ops) return -ENOTSOCK;
    *s = (*file)->inode->socket;
    return 0;
}

static long socket_descriptor(struct socket *s, uint32_t flags) {
    struct inode *inode = inode_new(S_IFSOCK | 0777);
    struct wait_queue *queue = object_alloc(sizeof *queue);
    struct file *file = inode && queue ? file_new(&socket_ops, inode, O_RDWR | (flags & O_NONBLOCK)) : NULL;
    if (!file) {
        if (queue) object_free(queue, sizeof *queue);
        socket_close(s);
        return -ENOMEM;
    }
    inode->socket = s;
    file->data = queue;
    file->outside = socket_domain(s) != AF_UNIX && network_present();
    socket_set_owner(s, file);
    return descriptor_new(file, 0, flags & O_CLOEXEC);
}

static bool waits(const struct file *file, int flags) {
    return !(file->flags & O_NONBLOCK || flags & MSG_DONTWAIT);
}

long send_bytes(struct file *file, uint64_t at, uint64_t bytes, int flags, const struct endpoint *to) {
    struct socket *s = file->inode->socket;
    uint64_t deadline = waits(file, flags) ? deadline_of(s, true) : 0, done = 0;
    bytes = min_u64(bytes, INT32_MAX & ~(PAGE - 1));
    for (;;) {
        uint64_t span = user_span(at + done, bytes - done, false);
        if (bytes > done && !span) return done ? (long)done : -EFAULT;
        long n = socket_send(s, (const void *)(at + done), span, flags, to);
        if (network_stalled()) exchange(LS_EX_TIME, NEVER, false);
        if (n >= 0) done += (uint64_t)n;
        if (n >= 0 && (done >= bytes || socket_type(s) != SOCK_STREAM)) return (long)done;
        if (n == -EPIPE && !done && !(flags & MSG_NOSIGNAL) && socket_type(s) == SOCK_STREAM)
            signal_raise_here(SIGPIPE, SI_USER);
        if (n < 0 && n != -EAGAIN) return done ? (long)done : n;
        if (n >= 0) continue;
        if (!waits(file, flags)) return done ? (long)done : -EAGAIN;
        if ((n = wait_for(file, POLLOUT, deadline))) return done ? (long)done : n;
    }
}

long receive_bytes(struct file *file, uint64_t to, uint64_t bytes, int flags, struct endpoint *from) {
    struct socket *s = file->inode->socket;
    uint64_t deadline = waits(file, flags) ? deadline_of(s, false) : 0, done = 0;
    bool all = (flags & MSG_WAITALL) && !(flags & MSG_PEEK) && socket_type(s) == SOCK_STREAM;
    bytes = min_u64(bytes, INT32_MAX & ~(PAGE - 1));
    if (flags & MSG_ERRQUEUE) return -EAGAIN;
    for (;;) {
        uint64_t span = user_span(to + done, bytes - done, true);
        if (bytes > done && !span) return done ? (long)done : -EFAULT;
        long n = socket_receive(s, (void *)(to + done), span, flags, from);
        if (n > 0) done += (uint64_t)n;
        if (n >= 0 && (!all || !n || done >= bytes)) return (long)done;
        if (n < 0 && n != -EAGAIN) return done ? (long)done : n;
        if (n >= 0) continue;
        if (!waits(file, flags)) return done ? (long)done : -EAGAIN;
        if ((n = wait_for(file, POLLIN, deadline))) return done ? (long)done : n;
    }
}

static long socket_read(struct file *file, void *to, size_t bytes, uint64_t *offset) {
    (void)offset;
    return bytes ? receive_bytes(file, (uint64_t)to, bytes, 0, NULL) : 0;
}

/* From the program, or through sendfile from a buffer of the kernel, which needs no check. */
static long socket_write(struct file *file, const void *from, size_t bytes, uint64_t *offset) {
    (void)offset;
    if ((uint64_t)from < LS_USER_TOP) return send_bytes(file, (uint64_t)from, bytes, 0, NULL);
    struct socket *s = file->inode->socket;
    for (size_t done = 0;;) {
        long n = socket_send(s, (const uint8_t *)from + done, bytes - done, 0, NULL);
        if (network_stalled()) exchange(LS_EX_TIME, NEVER, false);
        if (n > 0) done += (size_t)n;
        if (done >= bytes || (n < 0 && n != -EAGAIN)) return done ? (long)done : n;
        if (n >= 0) continue;
        if (!waits(file, 0)) return done ? (long)done : n;
        if ((n = wait_for(file, POLLOUT, NEVER))) return done ? (long)done : n;
    }
}

static unsigned socket_file_poll(struct file *file) { return socket_poll(file->inode->socket); }

static void socket_file_close(struct file *file) {
    struct socket *s = file->inode->socket;
    struct unix_name name;
    unix_name_of(s, false, &name);
    socket_set_owner(s, NULL);                   /* a connection outlives its file */
    bool named = name.inode && unix_is_bound(s); /* an accepted end bears the name without holding it */
    socket_close(s);
    if (named) inode_release((struct inode *)name.inode);
    object_free(file->data, sizeof(struct wait_queue));
}

static struct wait_queue *socket_queue(struct file *file) { return file->data; }

static long socket_ioctl(struct file *file, unsigned request, uint64_t argument) {
    struct socket *s = file->inode->socket;
    long n = request == FIONREAD ? socket_unread(s) : request == TIOCOUTQ ? socket_unsent(s) : -ENOTTY;
    uint32_t value = (uint32_t)n;
    if (request == SIOCGIFCONF) { /* no list: programs then take the address they are told */
        value = 0;
        return copy_out(argument, &value, sizeof value);
    }
    return n < 0 ? n : copy_out(argument, &value, sizeof value);
}

const struct file_ops socket_ops = {.read = socket_read,
                                    .write = socket_write,
                                    .poll = socket_file_poll,
                                    .ioctl = socket_ioctl,
                                    .close = socket_file_close,
                                    .queue = socket_queue,
                                    .name = "a socket"};

/* ---- calls ---------------------------------------------------------------------------------- */
long sys_socket(int domain, int type, int protocol) {
    struct socket *s;
    long error = socket_open(domain, type & ~SOCK_FLAGS, protocol, &s);
    return error ? error : socket_descriptor(s, (uint32_t)type);
}

long sys_socketpair(int domain, int type, int protocol, uint64_t to) {
    struct socket *pair[2];
    int fd[2];
    if (domain != AF_UNIX) return domain == AF_INET ? -EOPNOTSUPP : -EAFNOSUPPORT;
    if (protocol) return -EPROTONOSUPPORT;
    if (!user_ok(to, sizeof fd, true)) return -EFAULT;
    long error = unix_pair(type & ~SOCK_FLAGS, pair);
    if (error) return error;
    fd[0] = (int)socket_descriptor(pair[0], (uint32_t)type);
    if (fd[0] < 0) {
        socket_close(pair[1]);
        return fd[0];
    }
    fd[1] = (int)socket_descriptor(pair[1], (uint32_t)type);
    if (fd[1] < 0) {
        sys_close(fd[0]);
        return fd[1];
    }
    return copy_out(to, fd, sizeof fd);
}

long sys_bind(int fd, uint64_t at, uint64_t size) {
    struct file *file;
    struct socket *s;
    struct address address;
    long error = socket_get(fd, &file, &s) ?: address_in(&address, at, size);
    if (error) return error;
    if (address.family != socket_domain(s)) return socket_domain(s) == AF_UNIX ? -EINVAL : -EAFNOSUPPORT;
    if (address.family == AF_INET) return socket_bind(s, address.endpoint);
    if (unix_is_bound(s)) return -EINVAL;
    return address_make(&address) ?: unix_bind(s, &address.name);
}

long sys_listen(int fd, int backlog) {
    struct file *file;
    struct socket *s;
    return socket_get(fd, &file, &s) ?: socket_listen(s, backlog);
}

long sys_accept4(int fd, uint64_t to, uint64_t size_at, uint32_t flags) {
    struct file *file;
    struct socket *s, *accepted;
    struct address address;
    if (flags & ~(uint32_t)SOCK_FLAGS) return -EINVAL;
    long error = socket_get(fd, &file, &s);
    if (error) return error;
    uint64_t deadline = deadline_of(s, false);
    while ((error = socket_accept(s, &accepted)) == -EAGAIN && waits(file, 0))
        if ((error = wait_for(file, POLLIN, deadline))) return error;
    if (error) return error;
    address_of(accepted, true, &address);
    if ((error = address_out(&address, to, size_at))) {
        socket_close(accepted);
        return error;
    }
    port->accepted++;
    return socket_descriptor(accepted, flags);
}

long sys_accept(int fd, uint64_t to, uint64_t size_at) { return sys_accept4(fd, to, size_at, 0); }

static long connect_unix(struct file *file, struct socket *s, struct address *address) {
    uint64_t deadline = deadline_of(s, true);
    long error = address_find(address);
    while (!error && (error = unix_connect(s, &address->name)) == -EAGAIN && waits(file, 0))
        error = wait_for(file, POLLOUT, deadline);
    return error;
}

long sys_connect(int fd, uint64_t at, uint64_t size) {
    struct file *file;
    struct socket *s;
    struct address address;
    long error = socket_get(fd, &file, &s) ?: address_in(&address, at, size);
    if (error) return error;
    if (address.family == AF_UNSPEC) return socket_disconnect(s);
    if (address.family != socket_domain(s)) return socket_domain(s) == AF_UNIX ? -EINVAL : -EAFNOSUPPORT;
    if (address.family == AF_UNIX) return connect_unix(file, s, &address);
    error = socket_connect(s, address.endpoint);
    if (!waits(file, 0) || (error != -EINPROGRESS && error != -EALREADY)) return error;
    uint64_t deadline = deadline_of(s, true);
    while (!(socket_poll(s) & (POLLOUT | POLLERR | POLLHUP)))
        if ((error = wait_for(file, POLLOUT, deadline))) return error == -EAGAIN ? -EINPROGRESS : error;
    int pending;
    size_t bytes = sizeof pending;
    socket_get_option(s, 1 /* SOL_SOCKET */, 4 /* SO_ERROR */, &pending, &bytes);
    return -pending;
}

long sys_shutdown(int fd, int how) {
    struct file *file;
    struct socket *s;
    if (how < 0 || how > 2) return -EINVAL;
    return socket_get(fd, &file, &s) ?: socket_shutdown(s, how);
}

static long tell_name(int fd, bool peer, uint64_t to, uint64_t size_at) {
    struct file *file;
    struct socket *s;
    struct address address;
    struct endpoint there;
    long error = socket_get(fd, &file, &s);
    if (!error && peer)
        error = socket_domain(s) == AF_INET ? socket_peer(s, &there) : unix_is_connected(s) ? 0 : -ENOTCONN;
    if (error) return error;
    address_of(s, peer, &address);
    return address_out(&address, to, size_at);
}

long sys_getsockname(int fd, uint64_t to, uint64_t size_at) { return tell_name(fd, false, to, size_at); }
long sys_getpeername(int fd, uint64_t to, uint64_t size_at) { return tell_name(fd, true, to, size_at); }

long sys_setsockopt(int fd, int level, int name, uint64_t at, uint32_t bytes) {
    struct file *file;
    struct socket *s;
    uint8_t value[64] = {0};
    long error = socket_get(fd, &file, &s);
    if (error) return error;
    if ((int32_t)bytes < 0) return -EINVAL;
    bytes = (uint32_t)min_u64(bytes, sizeof value);
    if (copy_in(value, at, bytes)) return -EFAULT;
    return socket_set_option(s, level, name, value, bytes);
}

long sys_getsockopt(int fd, int level, int name, uint64_t to, uint64_t size_at) {
    struct file *file;
    struct socket *s;
    uint8_t value[64] = {0};
    uint32_t room;
    long error = socket_get(fd, &file, &s);
    if (error) return error;
    if (copy_in(&room, size_at, sizeof room)) return -EFAULT;
    if ((int32_t)room < 0) return -EINVAL;
    size_t bytes = min_u64(room, sizeof value);
    if ((error = socket_get_option(s, level, name, value, &bytes))) return error;
    room = (uint32_t)bytes;
    return copy_out(to, value, bytes) ?: copy_out(size_at, &room, sizeof room);
}
