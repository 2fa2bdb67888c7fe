/*
 * IPv4 (RFC 791, 1122). Packets always leave whole, with DF set; fragments that arrive are
 * refused and counted. What is addressed to ourselves goes through a bounded queue and comes in
 * again from net_flush, so that no input runs inside an output.
 */
#include "stack.h"

bool ip_is_local(uint32_t ip) { return ip >> 24 == 127 || (ip && ip == net->config.ip); }

bool ip_is_broadcast(uint32_t ip) {
    const struct net_config *c = &net->config;
    return ip == 0xffffffff || (c->ip && c->netmask < 0xfffffffe && !((ip ^ c->ip) & c->netmask) &&
                                (ip | c->netmask) == 0xffffffff);
}

static bool on_link(uint32_t ip) { return !((ip ^ net->config.ip) & net->config.netmask); }

uint32_t ip_source_for(uint32_t destination) {
    if (destination >> 24 == 127) return 0x7f000001;
    if (!net->config.ip) return 0;
    if (ip_is_local(destination) || ip_is_broadcast(destination)) return net->config.ip;
    return on_link(destination) || net->config.gateway ? net->config.ip : 0;
}

uint16_t ip_mtu(uint32_t destination) { return ip_is_local(destination) ? LOOPBACK_MTU : net->config.mtu; }

uint8_t *ip_begin(uint32_t destination) {
    if (ip_is_local(destination)) {
        if (net->loopback_count >= LOOPBACK_QUEUE) return NULL;
        struct loopback_packet *packet = pages_alloc(1);
        return packet ? packet->bytes + IP_HEADER : NULL;
    }
    uint8_t *frame = net->config.ip ? net_transmit_room() : NULL;
    if (!frame) net->counters.no_room++;
    return frame ? frame + ETHER_HEADER + IP_HEADER : NULL;
}

void ip_send(uint8_t *payload, size_t bytes, uint8_t protocol, uint32_t source, uint32_t destination) {
    struct ip_header *ip = (void *)(payload - IP_HEADER);
    *ip = (struct ip_header){.version_words = 0x45,
                             .length = be16((uint16_t)(IP_HEADER + bytes)),
                             .id = be16(++net->ip_id),
                             .fragment = be16(IP_DONT_FRAGMENT),
                             .ttl = 64,
                             .protocol = protocol,
                             .source = be32(source),
                             .destination = be32(destination)};
    ip->checksum = checksum(sum_bytes(ip, IP_HEADER, 0));
    if (ip_is_local(destination)) {
        struct loopback_packet *packet = (void *)((uint8_t *)ip - sizeof *packet);
        packet->length = IP_HEADER + bytes;
        *net->loopback_end = packet;
        net->loopback_end = &packet->next;
        net->loopback_count++;
        return;
    }
    uint32_t hop = on_link(destination) || ip_is_broadcast(destination) || !net->config.gateway
                       ? destination
                       : net->config.gateway;
    ether_send((uint8_t *)ip - ETHER_HEADER, ETHER_HEADER + IP_HEADER + bytes, hop);
}

void loopback_run(void) {
    while (net->loopback) {
        struct loopback_packet *packet = net->loopback;
        if (!(net->loopback = packet->next)) net->loopback_end = &net->loopback;
        net->loopback_count--;
        ip_input(packet->bytes, packet->length, true);
        page_free(gpa_of(packet));
    }
}

void ip_input(const uint8_t *packet, size_t bytes, bool inside) {
    const struct ip_header *ip = (const void *)packet;
    if (bytes < IP_HEADER || ip->version_words >> 4 != 4) return;
    size_t header = (ip->version_words & 15) * 4u, length = be16(ip->length);
    if (header < IP_HEADER || length < header || length > bytes) return;
    if (checksum(sum_bytes(packet, header, 0))) {
        net->counters.bad_checksum++;
        return;
    }
    uint32_t source = be32(ip->source), destination = be32(ip->destination);
    bool broadcast = ip_is_broadcast(destination);
    if (!ip_is_local(destination) && !broadcast && net->config.ip) return;
    /* Nobody outside speaks from our own addresses, or to 127.0.0.0/8, and nobody at all from a group. */
    if (!inside && (ip_is_local(source) || destination >> 24 == 127)) return;
    if (source >> 28 >= 14 || ip_is_broadcast(source)) return;
    if (be16(ip->fragment) & (IP_MORE_FRAGMENTS | IP_OFFSET)) {
        net->counters.fragments++;
        return;
    }
    const uint8_t *payload = packet + header;
    length -= header;
    if (ip->protocol == IP_TCP && !broadcast) tcp_input(ip, payload, length);
    if (ip->protocol == IP_UDP) udp_input(ip, payload, length);
    if (ip->protocol == IP_ICMP && !broadcast) icmp_input(ip, payload, length);
}

/* ---- the stack as a whole ------------------------------------------------------------------ */
struct net *net;

size_t net_bytes(void) { return sizeof(struct net); }
const struct net_counters *net_counters(void) { return &net->counters; }
uint64_t net_pages(void) { return net->pages; }

void net_start(struct net *it, const struct net_config *config) {
    net = it;
    net->config = *config;
    net->loopback_end = &net->loopback;
    net->output_end = &net->output;
    net->time_waits_end = &net->time_waits;
    net->orphans_end = &net->orphans;
    net->pages_max = min_u64(pages_left() / 4, 65536); /* 256 MiB at most */
    net_random(net->hash_key, sizeof net->hash_key);
    arp_start();
}

void net_configure(uint32_t ip, uint32_t netmask, uint32_t gateway) {
    net->config.ip = ip;
    net->config.netmask = netmask;
    net->config.gateway = gateway;
    arp_start();
}

void net_flush(void) {
    do loopback_run();
    while (tcp_outputs() && net->loopback);
}
