/* ICMP (RFC 792): answers echoes, sends "port unreachable", heeds what concerns our own packets. */
#include "stack.h"
#include <linux/errno.h>

#define ECHO_REPLY 0
#define UNREACHABLE 3
#define ECHO 8
#define ERRORS_PER_SECOND 100u

static void send_icmp(uint8_t *room, size_t bytes, uint32_t source, uint32_t destination) {
    struct icmp_header *icmp = (void *)room;
    icmp->checksum = 0;
    icmp->checksum = checksum(sum_bytes(room, bytes, 0));
    ip_send(room, bytes, IP_ICMP, source, destination);
}

static void echo(const struct ip_header *ip, const uint8_t *bytes, size_t length) {
    uint32_t from = be32(ip->source), to = be32(ip->destination);
    if (IP_HEADER + length > ip_mtu(from)) return;
    uint8_t *room = ip_begin(from);
    if (!room) return;
    memcpy(room, bytes, length);
    ((struct icmp_header *)room)->type = ECHO_REPLY;
    send_icmp(room, length, to, from);
}

/* RFC 5927: hard errors only end an attempt to connect; the rest is remembered, or ignored. */
static void unreachable(const struct icmp_header *icmp, const uint8_t *bytes, size_t length) {
    static const int errors[] = {EHOSTUNREACH, EHOSTUNREACH, ECONNREFUSED, ECONNREFUSED};
    const struct ip_header *ip = (const void *)bytes; /* the packet that did not arrive */
    size_t header = length >= IP_HEADER ? (ip->version_words & 15) * 4u : 0;
    if (header < IP_HEADER || length < header + 8 || icmp->code > 4) return;
    const struct tcp_header *there = (const void *)(bytes + header); /* its first 8 bytes only */
    struct endpoint from = {be32(ip->source), be16(there->source)};
    struct endpoint to = {be32(ip->destination), be16(there->destination)};
    bool too_big = icmp->code == 4;
    if (ip->protocol == IP_TCP)
        tcp_unreachable(from, to, be32(there->sequence), too_big ? 0 : errors[icmp->code],
                        too_big ? be16(icmp->sequence) : 0);
    if (ip->protocol == IP_UDP && icmp->code == 3) udp_refused(from, to);
}

void icmp_input(const struct ip_header *ip, const uint8_t *bytes, size_t length) {
    const struct icmp_header *icmp = (const void *)bytes;
    if (length < sizeof *icmp || checksum(sum_bytes(bytes, length, 0))) return;
    if (icmp->type == ECHO && icmp->code == 0) echo(ip, bytes, length);
    if (icmp->type == UNREACHABLE) unreachable(icmp, bytes + sizeof *icmp, length - sizeof *icmp);
}

void icmp_unreachable_port(const struct ip_header *ip, size_t bytes) {
    uint64_t now = net_now();
    if (now - net->icmp_at >= 1000 * MS) {
        net->icmp_at = now;
        net->icmp_tokens = ERRORS_PER_SECOND;
    }
    if (!net->icmp_tokens) return;
    net->icmp_tokens--;
    uint32_t from = be32(ip->source), to = be32(ip->destination);
    uint8_t *room = ip_begin(from);
    if (!room) return;
    *(struct icmp_header *)room = (struct icmp_header){.type = UNREACHABLE, .code = 3};
    bytes = min_u64(bytes, 548); /* RFC 1812: as much of it as fits into 576 bytes */
    memcpy(room + sizeof(struct icmp_header), ip, bytes);
    send_icmp(room, sizeof(struct icmp_header) + bytes, to, from);
}
