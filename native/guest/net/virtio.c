/*
 * The network card: virtio-net (virtio 1.2) on virtio-mmio, where the boot block says. The device
 * looks at both queues at every exchange, so there is nothing to notify and nothing interrupts:
 * frames are put into the transmit queue, and the exchange that follows anyway carries them.
 */
#include "stack.h"

#define QUEUE_ENTRIES 256u
#define BUFFER_BYTES 2048u
#define FRAME_HEADER 12u /* struct virtio_net_hdr with VIRTIO_F_VERSION_1; all zero: no offloads */
#define STALLED_AT 192u  /* frames: so many do not wait for an exchange that happens to come */

enum {
    MAGIC = 0x0,
    VERSION = 0x4,
    DEVICE_ID = 0x8,
    FEATURES = 0x10,
    FEATURES_SELECT = 0x14,
    DRIVER_FEATURES = 0x20,
    DRIVER_FEATURES_SELECT = 0x24,
    QUEUE_SELECT = 0x30,
    QUEUE_MAX = 0x34,
    QUEUE_SIZE = 0x38,
    QUEUE_READY = 0x44,
    STATUS = 0x70,
    QUEUE_TABLE = 0x80,
    QUEUE_AVAILABLE = 0x90,
    QUEUE_USED = 0xa0
};
#define FEATURE_MAC (1u << 5)
#define FEATURE_VERSION_1 (1u << 0) /* of the second word */
#define STATUS_ACKNOWLEDGE 1u
#define STATUS_DRIVER 2u
#define STATUS_DRIVER_OK 4u
#define STATUS_FEATURES_OK 8u
#define WRITABLE 2u
#define NO_INTERRUPT 1u

struct queue { /* three pages */
    struct {
        uint64_t gpa;
        uint32_t bytes;
        uint16_t flags, next;
    } table[QUEUE_ENTRIES];
    struct {
        uint16_t flags, index, ring[QUEUE_ENTRIES];
    } available __attribute__((aligned(4096)));
    struct {
        uint16_t flags, index;
        struct {
            uint32_t id, bytes;
        } ring[QUEUE_ENTRIES];
    } used __attribute__((aligned(4096)));
};

static volatile struct queue *receive, *transmit;
static uint8_t *receive_buffers, *transmit_buffers;
static uint16_t received; /* used entries of the receive queue that were taken */
static bool present;

static uint32_t reg(unsigned at) { return *(volatile uint32_t *)direct(boot->net_mmio_gpa + at); }
static void set_reg(unsigned at, uint32_t value) {
    *(volatile uint32_t *)direct(boot->net_mmio_gpa + at) = value;
}

static void set_address(unsigned at, volatile void *to) {
    uint64_t gpa = gpa_of((void *)to);
    set_reg(at, (uint32_t)gpa);
    set_reg(at + 4, (uint32_t)(gpa >> 32));
}

static volatile struct queue *queue_start(unsigned number, uint8_t **buffers) {
    struct queue *q = pages_alloc(sizeof *q / PAGE);
    *buffers = pages_alloc(QUEUE_ENTRIES * BUFFER_BYTES / PAGE);
    set_reg(QUEUE_SELECT, number);
    if (!q || !*buffers || reg(QUEUE_MAX) < QUEUE_ENTRIES) return NULL;
    for (unsigned i = 0; i < QUEUE_ENTRIES; i++) {
        q->table[i].gpa = gpa_of(*buffers + i * BUFFER_BYTES);
        q->table[i].bytes = BUFFER_BYTES;
        q->table[i].flags = number == 0 ? WRITABLE : 0;
        q->available.ring[i] = (uint16_t)i;
    }
    q->available.flags = NO_INTERRUPT;
    q->available.index = number == 0 ? QUEUE_ENTRIES : 0;
    set_reg(QUEUE_SIZE, QUEUE_ENTRIES);
    set_address(QUEUE_TABLE, q->table);
    set_address(QUEUE_AVAILABLE, &q->available);
    set_address(QUEUE_USED, &q->used);
    set_reg(QUEUE_READY, 1);
    return q;
}

static bool device_start(void) {
    if (!boot->net_mmio_gpa || reg(MAGIC) != 0x74726976 || reg(VERSION) != 2 || reg(DEVICE_ID) != 1)
        return false;
    set_reg(STATUS, 0);
    set_reg(STATUS, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
    set_reg(FEATURES_SELECT, 0);
    uint32_t low = reg(FEATURES);
    set_reg(FEATURES_SELECT, 1);
    if (!(reg(FEATURES) & FEATURE_VERSION_1)) return false;
    set_reg(DRIVER_FEATURES_SELECT, 0);
    set_reg(DRIVER_FEATURES, low & FEATURE_MAC);
    set_reg(DRIVER_FEATURES_SELECT, 1);
    set_reg(DRIVER_FEATURES, FEATURE_VERSION_1);
    set_reg(STATUS, STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK);
    if (!(reg(STATUS) & STATUS_FEATURES_OK)) return false;
    receive = queue_start(0, &receive_buffers);
    transmit = queue_start(1, &transmit_buffers);
    if (!receive || !transmit) return false;
    set_reg(STATUS, STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK);
    return true;
}

void network_start(void) {
    static struct net stack;
    static struct net_config config;
    present = device_start();
    if (present) {
        memcpy(config.mac, boot->mac, sizeof config.mac);
        config.mtu = (uint16_t)(boot->mtu ? min_u64(boot->mtu, 2000) : 1500);
        config.ip = be32(boot->ip);
        config.netmask = be32(boot->netmask);
        config.gateway = be32(boot->gateway);
    }
    net_start(&stack, &config);
}

/* After every exchange: what was sent is gone, what came is here. */
void network_exchanged(void) {
    for (; present && received != receive->used.index; received++) {
        uint32_t id = receive->used.ring[received % QUEUE_ENTRIES].id % QUEUE_ENTRIES;
        uint32_t bytes = (uint32_t)min_u64(receive->used.ring[received % QUEUE_ENTRIES].bytes, BUFFER_BYTES);
        if (bytes > FRAME_HEADER)
            net_input(receive_buffers + id * BUFFER_BYTES + FRAME_HEADER, bytes - FRAME_HEADER);
        uint16_t at = receive->available.index;
        receive->available.ring[at % QUEUE_ENTRIES] = (uint16_t)id;
        receive->available.index = (uint16_t)(at + 1);
    }
    net_timers();
}

bool network_present(void) { return present; }

static unsigned waiting(void) { return (uint16_t)(transmit->available.index - transmit->used.index); }

bool network_stalled(void) { return present && waiting() >= STALLED_AT; }

/* ---- what the stack asks for ------------------------------------------------------------- */
uint8_t *net_transmit_room(void) {
    if (!present || waiting() >= QUEUE_ENTRIES) return NULL;
    return transmit_buffers + transmit->available.index % QUEUE_ENTRIES * BUFFER_BYTES + FRAME_HEADER;
}

void net_transmit(size_t length) {
    uint16_t at = transmit->available.index, entry = at % QUEUE_ENTRIES;
    transmit->table[entry].bytes = (uint32_t)(FRAME_HEADER + length);
    transmit->available.ring[entry] = entry;
    transmit->available.index = (uint16_t)(at + 1);
}

uint64_t net_now(void) { return clock_now_still(); }
void net_random(void *to, size_t bytes) { random_bytes(to, bytes); }
