/* Everything the network stack's files share. All state is in one struct net. */
#ifndef LOCKSTEP_GUEST_NET_STACK_H
#define LOCKSTEP_GUEST_NET_STACK_H

#include "../kernel.h"
#include "net.h"
#include "wire.h"

/* Nothing is looked up through a table at run time: the kernel is one piece. */
#pragma GCC visibility push(hidden)

#define MS 1000000ull /* ns */

static inline void memcpy_word(void *to, const void *from) { __builtin_memcpy(to, from, 8); }

/* ---- checksum.c, hash.c ------------------------------------------------------------- */
uint64_t sum_bytes(const void *from, size_t bytes, uint64_t sum);
uint64_t sum_copy(void *to, const void *from, size_t bytes, uint64_t sum);
uint64_t sum_shifted(uint64_t sum);
uint64_t sum_pseudo(uint32_t source, uint32_t destination, uint8_t protocol, size_t bytes);
uint16_t checksum(uint64_t sum);
uint64_t keyed_hash(const uint64_t key[2], uint64_t a, uint64_t b);

/* ---- timer.c -------------------------------------------------------------------------- */
struct deadline {
    uint64_t at; /* 0 or NEVER: not set */
    struct deadline *child, *next, *before;
    void (*fire)(struct deadline *it);
};
void deadline_set(struct deadline *it, uint64_t at); /* the earlier of this and what is set */
void deadline_cancel(struct deadline *it);

/* ---- ranges.c -------------------------------------------------------------------------- */
#define RANGES_MAX 255u /* a struct ranges is a page */
struct range {
    uint64_t start, end;
};
struct ranges {
    uint64_t count;
    struct range range[RANGES_MAX];
};
bool ranges_add(struct ranges *set, uint64_t start, uint64_t end);
void ranges_cut(struct ranges *set, uint64_t below);
uint64_t ranges_bytes(const struct ranges *set, uint64_t above);

/* ---- buffer.c: a window over a byte stream, in pages that come and go --------------------- */
#define BUFFER_TABLES 4u
#define BUFFER_MAX (BUFFER_TABLES * 512 * PAGE - PAGE) /* bytes */
struct buffer {
    uint8_t **table[BUFFER_TABLES];
    uint64_t start, end;   /* positions in the stream: of the first byte, and after the last in order */
    uint32_t slots, pages; /* places for pages, and how many are there */
};
/* How many of the bytes found room; fewer only when memory is short. Does not move `end`. */
size_t buffer_put(struct buffer *b, uint64_t at, const void *from, size_t bytes);
void buffer_get(const struct buffer *b, uint64_t at, void *to, size_t bytes);
uint64_t buffer_get_sum(const struct buffer *b, uint64_t at, void *to, size_t bytes);
void buffer_drop(struct buffer *b, uint64_t start);
void buffer_free(struct buffer *b);

/* ---- ether.c, ip.c, icmp.c ------------------------------------------------------------------ */
#define ETHER_HEADER sizeof(struct ether_header)
#define IP_HEADER sizeof(struct ip_header)
#define ARP_ENTRIES 128u
#define LOOPBACK_MTU 3968u
#define LOOPBACK_QUEUE 1024u /* packets */

struct arp_entry {
    uint32_t ip;
    uint8_t mac[6], state, tries;
    uint64_t used_at, asked_at, known_until;
    uint8_t *frame; /* the one frame that waits for the answer, NET_FRAME_MAX */
    size_t length;
};
struct loopback_packet {
    struct loopback_packet *next;
    size_t length;
    uint8_t bytes[];
};

void ether_send(uint8_t *frame, size_t length, uint32_t next_hop);
void arp_start(void);
/* Room for what comes after the IP header; NULL: none, or nowhere to send it. */
uint8_t *ip_begin(uint32_t destination);
void ip_send(uint8_t *payload, size_t bytes, uint8_t protocol, uint32_t source, uint32_t destination);
void ip_input(const uint8_t *packet, size_t bytes, bool inside); /* inside: from ourselves */
bool ip_is_local(uint32_t ip);
bool ip_is_broadcast(uint32_t ip);
uint32_t ip_source_for(uint32_t destination); /* 0: unreachable */
uint16_t ip_mtu(uint32_t destination);
void loopback_run(void);
void icmp_input(const struct ip_header *ip, const uint8_t *bytes, size_t length);
void icmp_unreachable_port(const struct ip_header *ip, size_t bytes);

/* ---- sockets: socket.c, option.c --------------------------------------------------------------- */
struct socket_options { /* what a listening socket hands on to those it accepts */
    bool reuse_address, reuse_port, keep_alive, linger_on, no_delay, cork, broadcast, user_send, user_receive;
    bool cubic, quick_ack, dont_route, only_v6, out_of_band_inline, timestamps;
    uint8_t keep_count, type_of_service, ttl;
    int linger_s, priority, receive_low, defer_accept_s;
    uint32_t send_bytes, receive_bytes; /* SO_SNDBUF, SO_RCVBUF as Linux doubles them */
    uint32_t keep_idle_s, keep_interval_s, user_timeout_ms, max_segment, fin_wait_s;
    uint64_t receive_timeout, send_timeout; /* ns */
};
struct socket;
struct socket_ops {
    long (*bind)(struct socket *s, struct endpoint to);
    long (*listen)(struct socket *s, int backlog);
    long (*accept)(struct socket *s, struct socket **accepted);
    long (*connect)(struct socket *s, struct endpoint to);
    long (*disconnect)(struct socket *s);
    long (*send)(struct socket *s, const void *from, size_t bytes, int flags, const struct endpoint *to);
    long (*receive)(struct socket *s, void *to, size_t bytes, int flags, struct endpoint *from);
    long (*shutdown)(struct socket *s, int how);
    unsigned (*poll)(struct socket *s);
    void (*close)(struct socket *s);
    long (*unread)(struct socket *s);
    long (*unsent)(struct socket *s);
    void (*options_changed)(struct socket *s);
};
struct socket {
    const struct socket_ops *ops;
    void *owner;
    struct socket *next, **link; /* in the list of bound sockets of its protocol */
    struct endpoint local, remote;
    uint8_t domain, type;
    bool bound, listening, shut_receive, shut_send;
    int error; /* SO_ERROR: told once */
    struct tcp *tcp;
    struct tcp_listener *listener;
    struct datagram *first, **last; /* UDP */
    uint32_t queued;
    struct unix_end *unix_end;
    struct socket_options options;
};
extern const struct socket_ops tcp_ops, udp_ops, unix_ops;
struct socket *socket_new(int domain, int type, const struct socket_ops *ops);
void socket_free(struct socket *s);
int socket_take_error(struct socket *s);
long socket_bind_to(struct socket *s, struct socket **list, struct endpoint to);
long socket_bind_any(struct socket *s, struct socket **list, struct endpoint from);
void socket_unbind(struct socket *s);

/* ---- udp.c ---------------------------------------------------------------------------------------- */
void udp_input(const struct ip_header *ip, const uint8_t *bytes, size_t length);
void udp_refused(struct endpoint from, struct endpoint to);

/* ---- dhcp.c ------------------------------------------------------------------------------------------ */
struct dhcp {
    struct deadline timer;
    uint8_t state, tries;
    uint32_t transaction, offered, server;
    uint64_t began_at, next_at, renew_at, rebind_at, expires_at;
    struct net_lease lease;
};
void dhcp_input(const uint8_t *bytes, size_t length);

/* ---- tcp (tcp.h) -------------------------------------------------------------------------------- */
struct tcp;
void tcp_input(const struct ip_header *ip, const uint8_t *bytes, size_t length);
void tcp_unreachable(struct endpoint from, struct endpoint to, uint32_t sequence, int error, uint16_t mtu);
bool tcp_outputs(void); /* false: no room for all of them */
#define TCP_BUCKETS 2048u
#define REQUEST_BUCKETS 512u

struct net {
    struct net_config config;
    struct net_counters counters;
    struct deadline *timers;
    uint64_t hash_key[2];
    uint64_t pages, pages_max; /* of all socket buffers */

    struct arp_entry arp[ARP_ENTRIES];
    struct deadline arp_timer;
    struct loopback_packet *loopback, **loopback_end;
    uint32_t loopback_count;
    uint64_t icmp_at; /* when the last error was sent */
    uint32_t icmp_tokens;
    uint16_t ip_id;
    struct dhcp dhcp;

    struct socket *tcp_bound, *udp_bound;
    struct unix_end *unix_names; /* listening and named */
    struct tcp *connections[TCP_BUCKETS];
    struct tcp *output, **output_end; /* those that have something to send */
    struct tcp *time_waits, **time_waits_end, *orphans, **orphans_end;
    uint32_t time_wait_count, orphan_count, waiting_count;
    struct tcp_request *requests[REQUEST_BUCKETS];
    uint32_t request_count;
    uint64_t cookies_until, unaccepted_pages;
};

#pragma GCC visibility pop

#endif
