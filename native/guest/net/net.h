/*
 * The network stack as the rest of the kernel sees it: frames in, frames out, timers, sockets.
 * Nothing here knows a device, a clock or a system call. The kernel and a test on the host give
 * the five functions below and drive the very same files. Addresses and ports are numbers in the
 * machine's byte order; results are bytes, 0 or -errno, and nothing ever waits.
 */
#ifndef LOCKSTEP_GUEST_NET_H
#define LOCKSTEP_GUEST_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct socket;

/* ---- what the surroundings give ------------------------------------------------------ */
uint64_t net_now(void); /* ns, never goes back */
void net_random(void *to, size_t bytes);
/* Where the next frame is to be built (NET_FRAME_MAX bytes), the same until net_transmit; NULL: the
 * queue is full, call net_flush() when there is room again. */
uint8_t *net_transmit_room(void);
void net_transmit(size_t length);
void net_socket_changed(struct socket *socket); /* its readiness may have changed */
void net_lease_changed(void);                   /* net_lease() says something else now */
#define NET_FRAME_MAX 2032u

/* ---- the stack ------------------------------------------------------------------------ */
struct net_config {
    uint8_t mac[6];
    uint16_t mtu;
    uint32_t ip, netmask, gateway; /* ip 0: no card, loopback only; gateway 0: none */
};
struct net_counters {
    uint64_t frames_in, frames_out, dropped, bad_checksum, fragments;
    uint64_t retransmits, timeouts, fast_recoveries, spurious, cookies, challenges, resets_sent;
    uint64_t no_room; /* times the transmit queue was full */
};
struct net;
extern struct net *net; /* the stack in use: a test has several */
size_t net_bytes(void); /* of a struct net, zeroed by the caller */
void net_start(struct net *it, const struct net_config *config);
void net_configure(uint32_t ip, uint32_t netmask, uint32_t gateway);
/* Asks for an address, and from then on keeps it, or gets another. */
#define NET_DNS_MAX 3u
struct net_lease {
    uint32_t ip, netmask, gateway, dns[NET_DNS_MAX], dns_count;
    char domain[128];
};
void net_dhcp_start(void);
const struct net_lease *net_lease(void); /* NULL: none now */
void net_input(const uint8_t *frame, size_t length);
void net_flush(void); /* after a batch of input, or when the transmit queue has room again */
uint64_t net_timer_due(void);
void net_timers(void);
bool net_delivered(void); /* the peers of closed sockets have all that these were given */
const struct net_counters *net_counters(void);
uint64_t net_pages(void); /* page frames that socket buffers hold */

/* ---- sockets ---------------------------------------------------------------------------- */
struct endpoint {
    uint32_t ip;
    uint16_t portno;
};
/* type without SOCK_NONBLOCK and SOCK_CLOEXEC, which concern descriptors. */
long socket_open(int domain, int type, int protocol, struct socket **opened);
long socket_bind(struct socket *s, struct endpoint to);
long socket_listen(struct socket *s, int backlog);
long socket_accept(struct socket *s, struct socket **accepted);
/* -EINPROGRESS while it is under way; 0 or the error once POLLOUT holds. */
long socket_connect(struct socket *s, struct endpoint to);
long socket_disconnect(struct socket *s); /* connect with AF_UNSPEC */
long socket_send(struct socket *s, const void *from, size_t bytes, int flags, const struct endpoint *to);
/* A datagram's whole length may be above `bytes`: MSG_TRUNC. */
long socket_receive(struct socket *s, void *to, size_t bytes, int flags, struct endpoint *from);
long socket_shutdown(struct socket *s, int how); /* 0 receive, 1 send, 2 both */
unsigned socket_poll(struct socket *s);
void socket_close(struct socket *s);
long socket_name(struct socket *s, struct endpoint *to);
long socket_peer(struct socket *s, struct endpoint *to);
long socket_set_option(struct socket *s, int level, int name, const void *value, size_t size);
long socket_get_option(struct socket *s, int level, int name, void *value, size_t *size);
long socket_unread(struct socket *s); /* FIONREAD */
long socket_unsent(struct socket *s); /* SIOCOUTQ */
/* How long a blocking call may wait (SO_RCVTIMEO, SO_SNDTIMEO); 0: for ever. */
uint64_t socket_timeout(struct socket *s, bool sending);
int socket_domain(const struct socket *s);
int socket_type(const struct socket *s);
void *socket_owner(const struct socket *s); /* whatever the kernel hangs on it */
void socket_set_owner(struct socket *s, void *owner);

/* ---- Unix-domain stream sockets: names are an inode of the file system, or bytes ------------- */
struct unix_name {
    const void *inode; /* NULL: abstract, or none at all */
    uint8_t length;    /* of the path, or of the abstract name with its leading zero byte */
    char bytes[108];
};
long unix_pair(int type, struct socket *pair[2]);
long unix_bind(struct socket *s, const struct unix_name *name);
long unix_connect(struct socket *s, const struct unix_name *name);
bool unix_is_bound(const struct socket *s);
bool unix_is_connected(const struct socket *s);
void unix_name_of(const struct socket *s, bool peer, struct unix_name *name);

#ifdef __cplusplus
}
#endif
#endif
