/*
 * The DHCP client (RFC 2131): asks for an address, keeps it alive, and gives it up when its time
 * is over. What servers say is checked before any of it is used: anybody on the wire may answer.
 */
#include "stack.h"

enum { DHCP_OFF, DHCP_SELECTING, DHCP_REQUESTING, DHCP_BOUND, DHCP_RENEWING, DHCP_REBINDING };
enum { DISCOVER = 1, OFFER, REQUEST, DECLINE, ACK, NAK };
enum {
    OPTION_PAD = 0,
    OPTION_NETMASK = 1,
    OPTION_ROUTERS = 3,
    OPTION_DNS = 6,
    OPTION_HOST_NAME = 12,
    OPTION_DOMAIN = 15,
    OPTION_WANTED_IP = 50,
    OPTION_LEASE = 51,
    OPTION_OVERLOAD = 52,
    OPTION_TYPE = 53,
    OPTION_SERVER = 54,
    OPTION_WISHES = 55,
    OPTION_MOST_BYTES = 57,
    OPTION_RENEW = 58,
    OPTION_REBIND = 59,
    OPTION_CLIENT = 61,
    OPTION_END = 255
};
#define SERVER_PORT 67
#define CLIENT_PORT 68
#define EVERYBODY 0xffffffffu
#define ASK_BROADCAST 0x8000u
#define MESSAGE_LEAST 300u /* of BOOTP; some relays drop what is shorter */
#define FIRST_WAIT NS_PER_SECOND
#define LONGEST_WAIT (64 * NS_PER_SECOND)
#define RENEW_WAIT (60 * NS_PER_SECOND)
#define REQUEST_TRIES 4u
#define LEASE_LEAST 10u /* seconds; a server that makes us ask all the time is not followed */
#define FOR_EVER 0xffffffffu

struct message {
    uint8_t operation, hardware, hardware_bytes, hops;
    uint32_t transaction;
    uint16_t seconds, flags;
    uint32_t client, yours, next, relay;
    uint8_t mac[16], server_name[64], file[128];
    uint32_t magic;
    uint8_t options[];
} __attribute__((packed));
#define MAGIC 0x63825363u

struct reply {
    uint8_t type, overload;
    uint32_t server, lease, renew, rebind;
    struct net_lease lease_of;
};

/* ---- sending --------------------------------------------------------------------------------- */
static uint8_t *put(uint8_t *p, uint8_t option, const void *value, size_t bytes) {
    *p++ = option, *p++ = (uint8_t)bytes;
    memcpy(p, value, bytes);
    return p + bytes;
}

static uint8_t *put_ip(uint8_t *p, uint8_t option, uint32_t ip) {
    ip = be32(ip);
    return put(p, option, &ip, sizeof ip);
}

static void send(uint8_t type) {
    static const uint8_t wishes[] = {OPTION_NETMASK, OPTION_ROUTERS, OPTION_DNS,   OPTION_DOMAIN,
                                     OPTION_LEASE,   OPTION_RENEW,   OPTION_REBIND};
    struct dhcp *d = &net->dhcp;
    bool bound = d->state >= DHCP_BOUND;
    uint32_t to = d->state == DHCP_RENEWING ? d->server : EVERYBODY;
    /* Without an address ip_begin gives nothing: this is the one thing that leaves all the same. */
    uint8_t *room = bound ? ip_begin(to) : net_transmit_room();
    if (!room) return;
    if (!bound) room += ETHER_HEADER + IP_HEADER;
    struct udp_header *udp = (void *)room;
    struct message *m = (void *)(udp + 1);
    *m =
        (struct message){.operation = 1,
                         .hardware = 1,
                         .hardware_bytes = 6,
                         .transaction = be32(d->transaction),
                         .seconds = be16((uint16_t)min_u64((net_now() - d->began_at) / NS_PER_SECOND, 65535)),
                         .flags = be16(bound ? 0 : ASK_BROADCAST),
                         .client = bound ? be32(net->config.ip) : 0,
                         .magic = be32(MAGIC)};
    memcpy(m->mac, net->config.mac, 6);
    uint8_t identity[7] = {1};
    memcpy(identity + 1, net->config.mac, 6);
    uint16_t most = be16(net->config.mtu);
    uint8_t *p = put(m->options, OPTION_TYPE, &type, 1);
    p = put(p, OPTION_CLIENT, identity, sizeof identity);
    p = put(p, OPTION_HOST_NAME, "lockstep", 8);
    p = put(p, OPTION_MOST_BYTES, &most, sizeof most);
    p = put(p, OPTION_WISHES, wishes, sizeof wishes);
    if (d->state == DHCP_REQUESTING) {
        p = put_ip(p, OPTION_WANTED_IP, d->offered);
        p = put_ip(p, OPTION_SERVER, d->server);
    }
    *p++ = OPTION_END;
    while ((size_t)(p - (uint8_t *)m) < MESSAGE_LEAST) *p++ = OPTION_PAD;
    size_t bytes = (size_t)(p - room);
    uint32_t from = bound ? net->config.ip : 0;
    *udp = (struct udp_header){be16(CLIENT_PORT), be16(SERVER_PORT), be16((uint16_t)bytes), 0};
    udp->checksum = checksum(sum_bytes(udp, bytes, sum_pseudo(from, to, IP_UDP, bytes)));
    if (!udp->checksum) udp->checksum = 0xffff;
    ip_send(room, bytes, IP_UDP, from, to);
}

/* ---- states and times ------------------------------------------------------------------------ */
static void wait_until(uint64_t at) {
    net->dhcp.next_at = at;
    deadline_set(&net->dhcp.timer, at);
}

/* Twice as long each time, and not in step with others who were switched on together. */
static void wait_for_answer(void) {
    struct dhcp *d = &net->dhcp;
    uint64_t wait = min_u64(FIRST_WAIT << min_u64(d->tries++, 6), LONGEST_WAIT), draw;
    net_random(&draw, sizeof draw);
    wait_until(net_now() + wait - wait / 8 + draw % (wait / 4));
}

static void new_transaction(uint8_t state) {
    struct dhcp *d = &net->dhcp;
    net_random(&d->transaction, sizeof d->transaction);
    d->state = state;
    d->tries = 0;
    d->began_at = net_now();
}

static void discover(void) {
    new_transaction(DHCP_SELECTING);
    send(DISCOVER);
    wait_for_answer();
}

static void lose_address(void) {
    net->dhcp.lease = (struct net_lease){0};
    net_configure(0, 0, 0);
    net_lease_changed();
}

static void bind(const struct reply *r) {
    struct dhcp *d = &net->dhcp;
    uint64_t now = d->began_at; /* the lease counts from when it was asked for */
    bool for_ever = r->lease == FOR_EVER;
    uint64_t seconds = r->lease, renew = r->renew, rebind = r->rebind;
    if (!rebind || rebind >= seconds) rebind = seconds - seconds / 8;
    if (!renew || renew >= rebind) renew = min_u64(seconds / 2, rebind - 1);
    d->renew_at = for_ever ? NEVER : now + renew * NS_PER_SECOND;
    d->rebind_at = for_ever ? NEVER : now + rebind * NS_PER_SECOND;
    d->expires_at = for_ever ? NEVER : now + seconds * NS_PER_SECOND;
    d->state = DHCP_BOUND;
    d->server = r->server;
    const struct net_lease *l = &r->lease_of, *c = &d->lease;
    if (l->ip != c->ip || l->netmask != c->netmask || l->gateway != c->gateway)
        net_configure(l->ip, l->netmask, l->gateway);
    bool changed = memcmp(&d->lease, l, sizeof *l);
    d->lease = *l;
    if (changed) net_lease_changed();
    d->next_at = d->renew_at;
    if (!for_ever) wait_until(max_u64(d->renew_at, net_now() + NS_PER_SECOND));
}

/* RFC 2131, 4.4.5: again after half of what is left, but not within a minute. */
static void ask_again(uint64_t end) {
    uint64_t now = net_now(), left = end > now ? end - now : 0;
    send(REQUEST);
    wait_until(min_u64(now + max_u64(left / 2, RENEW_WAIT), max_u64(end, now + 1)));
}

static void fire(struct deadline *it) {
    struct dhcp *d = &net->dhcp;
    uint64_t now = net_now();
    if (now < d->next_at) {
        deadline_set(it, d->next_at);
        return;
    }
    switch (d->state) {
    case DHCP_SELECTING:
        send(DISCOVER);
        wait_for_answer();
        break;
    case DHCP_REQUESTING:
        if (d->tries >= REQUEST_TRIES) {
            discover();
        } else {
            send(REQUEST);
            wait_for_answer();
        }
        break;
    case DHCP_BOUND:
        new_transaction(DHCP_RENEWING);
        ask_again(d->rebind_at);
        break;
    case DHCP_RENEWING:
        if (now >= d->rebind_at) d->state = DHCP_REBINDING;
        ask_again(d->state == DHCP_RENEWING ? d->rebind_at : d->expires_at);
        break;
    case DHCP_REBINDING:
        if (now < d->expires_at) {
            ask_again(d->expires_at);
        } else {
            lose_address();
            discover();
        }
        break;
    default: break;
    }
}

/* ---- what servers say ------------------------------------------------------------------------- */
static uint32_t get_ip(const uint8_t *p) {
    uint32_t ip;
    memcpy(&ip, p, sizeof ip);
    return be32(ip);
}

/* Goes into a file that programs parse. */
static bool is_domain(const uint8_t *p, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        uint8_t c = p[i] | 32;
        if (!((c >= 'a' && c <= 'z') || (p[i] >= '0' && p[i] <= '9') || p[i] == '-' || p[i] == '.'))
            return false;
    }
    return true;
}

static bool is_host(uint32_t ip) { return ip >> 24 && ip >> 24 != 127 && ip >> 28 < 14; }

static void take_option(struct reply *r, uint8_t option, const uint8_t *p, size_t bytes) {
    struct net_lease *l = &r->lease_of;
    if (option == OPTION_DOMAIN) {
        while (bytes && !p[bytes - 1]) bytes--; /* some servers send the end of their string, too */
        if (bytes >= sizeof l->domain || !is_domain(p, bytes)) return;
        memset(l->domain, 0, sizeof l->domain);
        memcpy(l->domain, p, bytes);
    } else if (option == OPTION_TYPE && bytes == 1) {
        r->type = *p;
    } else if (option == OPTION_OVERLOAD && bytes == 1) {
        r->overload = *p;
    } else if (bytes >= 4 && bytes % 4 == 0) {
        uint32_t value = get_ip(p);
        switch (option) {
        case OPTION_NETMASK: l->netmask = value; break;
        case OPTION_ROUTERS: l->gateway = value; break;
        case OPTION_LEASE: r->lease = value; break;
        case OPTION_SERVER: r->server = value; break;
        case OPTION_RENEW: r->renew = value; break;
        case OPTION_REBIND: r->rebind = value; break;
        case OPTION_DNS:
            l->dns_count = 0;
            for (size_t i = 0; i < bytes && l->dns_count < NET_DNS_MAX; i += 4)
                if (get_ip(p + i)) l->dns[l->dns_count++] = get_ip(p + i);
            break;
        default: break;
        }
    }
}

static void take_options(struct reply *r, const uint8_t *p, const uint8_t *end) {
    while (p < end && *p != OPTION_END) {
        if (*p == OPTION_PAD) {
            p++;
            continue;
        }
        if (end - p < 2 || p[1] > end - p - 2) return;
        take_option(r, p[0], p + 2, p[1]);
        p += 2 + p[1];
    }
}

/* An address that a machine can have, in a network that can be. */
static bool usable(struct reply *r) {
    struct net_lease *l = &r->lease_of;
    uint32_t ip = l->ip;
    if (!l->netmask)
        l->netmask = ip >> 31 ? ip >> 30 == 3 ? 0xffffff00 : 0xffff0000 : 0xff000000; /* of its class */
    uint32_t host = ~l->netmask;
    if (!is_host(ip) || (host & (host + 1)) || host < 3 || l->netmask < 0xff000000) return false;
    if (!(ip & host) || (ip & host) == host || !is_host(r->server)) return false;
    if (((l->gateway ^ ip) & l->netmask) || l->gateway == ip) l->gateway = 0; /* nobody can reach it */
    return r->lease >= LEASE_LEAST;
}

/* A datagram for port 68; its addresses are checked by nobody, and its checksum was. */
void dhcp_input(const uint8_t *bytes, size_t length) {
    struct dhcp *d = &net->dhcp;
    const struct message *m = (const void *)bytes;
    if (d->state == DHCP_OFF || d->state == DHCP_BOUND || length < sizeof *m) return;
    if (m->operation != 2 || m->hardware != 1 || m->hardware_bytes != 6 || m->magic != be32(MAGIC)) return;
    if (m->transaction != be32(d->transaction) || memcmp(m->mac, net->config.mac, 6)) return;
    struct reply r = {.lease_of = {.ip = be32(m->yours)}};
    take_options(&r, m->options, bytes + length);
    if (r.overload & 1) take_options(&r, m->file, m->file + sizeof m->file);
    if (r.overload & 2) take_options(&r, m->server_name, m->server_name + sizeof m->server_name);
    bool ours = d->state == DHCP_REBINDING || r.server == d->server;
    if (d->state == DHCP_SELECTING) {
        if (r.type != OFFER || !usable(&r)) return;
        d->state = DHCP_REQUESTING;
        d->tries = 0;
        d->offered = r.lease_of.ip;
        d->server = r.server;
        send(REQUEST);
        wait_for_answer();
    } else if (r.type == NAK && ours) {
        if (d->state != DHCP_REQUESTING) lose_address();
        new_transaction(DHCP_SELECTING);
        wait_for_answer(); /* and not at once: who is refused again and again must not make a flood */
    } else if (r.type == ACK && ours && usable(&r) &&
               r.lease_of.ip == (d->state == DHCP_REQUESTING ? d->offered : net->config.ip)) {
        bind(&r);
    }
}

void net_dhcp_start(void) {
    net->dhcp.timer.fire = fire;
    discover();
}

const struct net_lease *net_lease(void) { return net->dhcp.lease.ip ? &net->dhcp.lease : NULL; }
