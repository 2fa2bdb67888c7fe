/*
 * The Internet checksum (RFC 1071). Sums are kept as 64-bit numbers of 32-bit words in memory
 * order, which cannot overflow for any packet, and are folded to 16 bits at the end: one's
 * complement sums do not care about byte order until then.
 */
#include "stack.h"

uint64_t sum_bytes(const void *from, size_t bytes, uint64_t sum) {
    const uint8_t *p = from;
    uint64_t other = 0, word;
    for (; bytes >= 16; bytes -= 16, p += 16) {
        memcpy_word(&word, p);
        sum += (uint32_t)word, other += word >> 32;
        memcpy_word(&word, p + 8);
        sum += (uint32_t)word, other += word >> 32;
    }
    for (; bytes >= 2; bytes -= 2, p += 2) sum += (uint64_t)p[0] | (uint64_t)p[1] << 8;
    if (bytes) sum += *p;
    return sum + other;
}

uint64_t sum_copy(void *to, const void *from, size_t bytes, uint64_t sum) {
    const uint8_t *p = from;
    uint8_t *q = to;
    uint64_t other = 0, word;
    for (; bytes >= 16; bytes -= 16, p += 16, q += 16) {
        memcpy_word(&word, p);
        memcpy_word(q, &word);
        sum += (uint32_t)word, other += word >> 32;
        memcpy_word(&word, p + 8);
        memcpy_word(q + 8, &word);
        sum += (uint32_t)word, other += word >> 32;
    }
    for (; bytes >= 2; bytes -= 2, p += 2, q += 2) {
        q[0] = p[0], q[1] = p[1];
        sum += (uint64_t)p[0] | (uint64_t)p[1] << 8;
    }
    if (bytes) sum += *q = *p;
    return sum + other;
}

static uint16_t fold(uint64_t sum) {
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

/* A sum of bytes that stand at an odd place of the whole has its two columns exchanged. */
uint64_t sum_shifted(uint64_t sum) { return __builtin_bswap16(fold(sum)); }

uint16_t checksum(uint64_t sum) { return (uint16_t)~fold(sum); }

uint64_t sum_pseudo(uint32_t source, uint32_t destination, uint8_t protocol, size_t bytes) {
    return (uint64_t)be32(source) + be32(destination) + be16(protocol) + be16((uint16_t)bytes);
}
