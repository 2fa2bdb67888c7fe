/*
 * Random bytes without exits: ChaCha20 keyed from the boot block, which the monitor fills from the
 * world's randomness (or from a seed) and logs; once, or again where a machine goes on from a
 * snapshot with randomness of its own.
 */
#include "kernel.h"

static uint32_t counter;
static uint8_t key[32], block[64];
static size_t used = sizeof block;

static uint32_t rotate(uint32_t x, int n) { return x << n | x >> (32 - n); }

static void quarter(uint32_t *s, int a, int b, int c, int d) {
    s[a] += s[b], s[d] = rotate(s[d] ^ s[a], 16);
    s[c] += s[d], s[b] = rotate(s[b] ^ s[c], 12);
    s[a] += s[b], s[d] = rotate(s[d] ^ s[a], 8);
    s[c] += s[d], s[b] = rotate(s[b] ^ s[c], 7);
}

static void next_block(void) {
    /* "expand 32-byte k", the key, a counter, and a nonce of zero. */
    uint32_t start[16] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574}, s[16];
    memcpy(start + 4, key, sizeof key);
    start[12] = counter++;
    memcpy(s, start, sizeof s);
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < 4; i++) quarter(s, i, 4 + i, 8 + i, 12 + i);
        for (int i = 0; i < 4; i++) quarter(s, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4);
    }
    for (int i = 0; i < 16; i++) s[i] += start[i];
    memcpy(block, s, sizeof block);
    used = 0;
}

void random_bytes(void *to, size_t bytes) {
    if (memcmp(key, boot->random, sizeof key) != 0) {
        memcpy(key, boot->random, sizeof key);
        used = sizeof block; /* what is left of the old key's is for nobody */
    }
    for (uint8_t *p = to; bytes;) {
        if (used == sizeof block) next_block();
        size_t n = min_u64(bytes, sizeof block - used);
        memcpy(p, block + used, n);
        p += n, bytes -= n, used += n;
    }
}
