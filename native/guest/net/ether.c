/*
 * Ethernet and ARP (RFC 826). An address is learnt only from ARP packets that concern us. One
 * frame waits for each answer; entries are few, and the least recently used gives way.
 */
#include "stack.h"

enum { ARP_FREE, ARP_ASKING, ARP_KNOWN };
#define ARP_TRIES 4u
#define ARP_RETRY (1000 * MS)
#define ARP_LIFETIME (60000 * MS) /* then the owner is asked again, while the old answer serves */

static const uint8_t everybody[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

static struct arp_entry *arp_find(uint32_t ip) {
    for (unsigned i = 0; i < ARP_ENTRIES; i++)
        if (net->arp[i].state != ARP_FREE && net->arp[i].ip == ip) return &net->arp[i];
    return NULL;
}

static void arp_forget(struct arp_entry *entry) {
    if (entry->frame) object_free(entry->frame, NET_FRAME_MAX);
    *entry = (struct arp_entry){0};
}

static struct arp_entry *arp_make(uint32_t ip) {
    struct arp_entry *entry = &net->arp[0];
    for (unsigned i = 0; i < ARP_ENTRIES && entry->state != ARP_FREE; i++)
        if (net->arp[i].state == ARP_FREE || net->arp[i].used_at < entry->used_at) entry = &net->arp[i];
    arp_forget(entry);
    entry->ip = ip;
    entry->used_at = net_now();
    return entry;
}

static void put_header(uint8_t *frame, const uint8_t to[6], uint16_t type) {
    struct ether_header *header = (void *)frame;
    memcpy(header->destination, to, 6);
    memcpy(header->source, net->config.mac, 6);
    header->type = be16(type);
}

static void transmit(size_t length) {
    net->counters.frames_out++;
    net_transmit(length);
}

static void arp_send(uint16_t operation, const uint8_t to[6], const uint8_t target_mac[6],
                     uint32_t target_ip) {
    uint8_t *frame = net_transmit_room();
    if (!frame) return;
    struct arp_packet *arp = (void *)(frame + ETHER_HEADER);
    put_header(frame, to, ETHER_ARP);
    *arp = (struct arp_packet){.hardware = be16(1),
                               .protocol = be16(ETHER_IPV4),
                               .hardware_bytes = 6,
                               .protocol_bytes = 4,
                               .operation = be16(operation),
                               .sender_ip = be32(net->config.ip),
                               .target_ip = be32(target_ip)};
    memcpy(arp->sender_mac, net->config.mac, 6);
    memcpy(arp->target_mac, target_mac, 6);
    transmit(ETHER_HEADER + sizeof *arp);
}

static void arp_ask(struct arp_entry *entry) {
    static const uint8_t nobody[6];
    entry->asked_at = net_now();
    entry->tries++;
    /* An owner that is still known is asked directly first: a flood of broadcasts helps nobody. */
    arp_send(1, entry->state == ARP_KNOWN && entry->tries < 3 ? entry->mac : everybody, nobody, entry->ip);
    deadline_set(&net->arp_timer, entry->asked_at + ARP_RETRY);
}

static void arp_fire(struct deadline *it) {
    uint64_t now = net_now();
    for (unsigned i = 0; i < ARP_ENTRIES; i++) {
        struct arp_entry *entry = &net->arp[i];
        if (entry->state == ARP_FREE || !entry->tries) continue;
        if (now < entry->asked_at + ARP_RETRY) {
            deadline_set(it, entry->asked_at + ARP_RETRY);
        } else if (entry->tries >= ARP_TRIES) {
            arp_forget(entry);
        } else {
            arp_ask(entry);
        }
    }
}

void arp_start(void) {
    net->arp_timer.fire = arp_fire;
    if (net->config.ip) arp_send(1, everybody, everybody, net->config.ip); /* gratuitous */
}

/* Sends the frame that lies in the transmit room, or keeps it until its next hop is known. */
void ether_send(uint8_t *frame, size_t length, uint32_t next_hop) {
    if (next_hop == 0xffffffff || ip_is_broadcast(next_hop)) {
        put_header(frame, everybody, ETHER_IPV4);
        transmit(length);
        return;
    }
    struct arp_entry *entry = arp_find(next_hop);
    if (entry && entry->state == ARP_KNOWN) {
        uint64_t now = net_now();
        entry->used_at = now;
        put_header(frame, entry->mac, ETHER_IPV4);
        transmit(length);
        if (now > entry->known_until && !entry->tries) arp_ask(entry);
        return;
    }
    if (!entry) {
        entry = arp_make(next_hop);
        entry->state = ARP_ASKING;
    }
    if (!entry->frame) entry->frame = object_alloc(NET_FRAME_MAX);
    if (entry->frame) {
        memcpy(entry->frame, frame, length);
        entry->length = length;
    }
    if (!entry->tries) arp_ask(entry);
}

static void arp_learn(struct arp_entry *entry, const uint8_t mac[6]) {
    memcpy(entry->mac, mac, 6);
    entry->state = ARP_KNOWN;
    entry->tries = 0;
    entry->known_until = net_now() + ARP_LIFETIME;
    uint8_t *room = entry->frame ? net_transmit_room() : NULL;
    if (room) {
        memcpy(room, entry->frame, entry->length);
        put_header(room, mac, ETHER_IPV4);
        transmit(entry->length);
    }
    if (entry->frame) object_free(entry->frame, NET_FRAME_MAX);
    entry->frame = NULL;
}

static void arp_input(const struct arp_packet *arp) {
    if (arp->hardware != be16(1) || arp->protocol != be16(ETHER_IPV4) || arp->hardware_bytes != 6 ||
        arp->protocol_bytes != 4 || !net->config.ip)
        return;
    uint32_t sender = be32(arp->sender_ip), target = be32(arp->target_ip);
    if (arp->sender_mac[0] & 1 || sender == net->config.ip || (sender && ip_is_broadcast(sender))) return;
    struct arp_entry *entry = sender ? arp_find(sender) : NULL;
    bool for_us = target == net->config.ip;
    if (!entry && for_us && sender && !((sender ^ net->config.ip) & net->config.netmask))
        entry = arp_make(sender);
    if (entry) arp_learn(entry, arp->sender_mac);
    if (for_us && arp->operation == be16(1)) arp_send(2, arp->sender_mac, arp->sender_mac, sender);
}

void net_input(const uint8_t *frame, size_t length) {
    const struct ether_header *header = (const void *)frame;
    net->counters.frames_in++;
    if (length < ETHER_HEADER) return;
    if (memcmp(header->destination, net->config.mac, 6) && !(header->destination[0] & 1)) return;
    frame += ETHER_HEADER, length -= ETHER_HEADER;
    if (header->type == be16(ETHER_ARP) && length >= sizeof(struct arp_packet))
        arp_input((const void *)frame);
    if (header->type == be16(ETHER_IPV4)) ip_input(frame, length, false);
}
