/* The system calls on sockets: socket_calls.c, socket_message.c, socket_address.c. */
#ifndef LOCKSTEP_GUEST_SOCKET_CALLS_H
#define LOCKSTEP_GUEST_SOCKET_CALLS_H

#include "file.h"
#include "net/net.h"

#define AF_UNSPEC 0
#define AF_UNIX 1
#define AF_INET 2
#define SOCK_STREAM 1
#define MSG_PEEK 0x2
#define MSG_TRUNC 0x20
#define MSG_DONTWAIT 0x40
#define MSG_WAITALL 0x100
#define MSG_ERRQUEUE 0x2000
#define MSG_NOSIGNAL 0x4000
#define MSG_WAITFORONE 0x10000

struct address { /* of either family */
    uint16_t family;
    struct endpoint endpoint;
    struct unix_name name;
};
/* socket_address.c: from and to the program's struct sockaddr. */
long address_in(struct address *to, uint64_t from, uint64_t size);
long address_find(struct address *address); /* the inode of a path; -ECONNREFUSED, -ENOENT */
long address_make(struct address *address); /* a new inode for a path; -EADDRINUSE */
long address_out(const struct address *address, uint64_t to, uint64_t size_at);
void address_of(struct socket *s, bool peer, struct address *address);

/* socket_calls.c */
extern const struct file_ops socket_ops;
long socket_get(int fd, struct file **file, struct socket **s);
/* May wait. `to` and `from` may be NULL. */
long socket_wait(struct file *file, unsigned events); /* within the socket's timeout */
long send_bytes(struct file *file, uint64_t bytes_at, uint64_t bytes, int flags, const struct endpoint *to);
long receive_bytes(struct file *file, uint64_t to, uint64_t bytes, int flags, struct endpoint *from);

#endif
