/* What stands on the wire: headers as they lie in a frame, big-endian, at any alignment. */
#ifndef LOCKSTEP_GUEST_NET_WIRE_H
#define LOCKSTEP_GUEST_NET_WIRE_H

#include <stdint.h>

#define packed __attribute__((packed))

static inline uint16_t be16(uint16_t x) { return __builtin_bswap16(x); }
static inline uint32_t be32(uint32_t x) { return __builtin_bswap32(x); }

struct ether_header {
    uint8_t destination[6], source[6];
    uint16_t type;
} packed;
#define ETHER_IPV4 0x0800
#define ETHER_ARP 0x0806

struct arp_packet {
    uint16_t hardware, protocol;
    uint8_t hardware_bytes, protocol_bytes;
    uint16_t operation;
    uint8_t sender_mac[6];
    uint32_t sender_ip;
    uint8_t target_mac[6];
    uint32_t target_ip;
} packed;

struct ip_header {
    uint8_t version_words, service;
    uint16_t length, id, fragment;
    uint8_t ttl, protocol;
    uint16_t checksum;
    uint32_t source, destination;
} packed;
#define IP_DONT_FRAGMENT 0x4000
#define IP_MORE_FRAGMENTS 0x2000
#define IP_OFFSET 0x1fff
#define IP_ICMP 1
#define IP_TCP 6
#define IP_UDP 17

struct icmp_header {
    uint8_t type, code;
    uint16_t checksum, id, sequence; /* unreachable: unused, next hop's MTU */
} packed;

struct udp_header {
    uint16_t source, destination, length, checksum;
} packed;

struct tcp_header {
    uint16_t source, destination;
    uint32_t sequence, acknowledgement;
    uint8_t words, flags; /* words: the header's length, in the upper half */
    uint16_t window, checksum, urgent;
} packed;
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_PSH 0x08
#define TCP_ACK 0x10

#undef packed
#endif
