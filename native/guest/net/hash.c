/* SipHash-2-4 (Aumasson, Bernstein 2012) over words: sequence numbers, cookies and the places of
 * connections in tables must not be guessed from outside. */
#include "stack.h"

static uint64_t rotate(uint64_t x, int n) { return x << n | x >> (64 - n); }

static void rounds(uint64_t *v, int count) {
    while (count--) {
        v[0] += v[1], v[1] = rotate(v[1], 13) ^ v[0], v[0] = rotate(v[0], 32);
        v[2] += v[3], v[3] = rotate(v[3], 16) ^ v[2];
        v[0] += v[3], v[3] = rotate(v[3], 21) ^ v[0];
        v[2] += v[1], v[1] = rotate(v[1], 17) ^ v[2], v[2] = rotate(v[2], 32);
    }
}

uint64_t keyed_hash(const uint64_t key[2], uint64_t a, uint64_t b) {
    uint64_t v[4] = {key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d, key[0] ^ 0x6c7967656e657261,
                     key[1] ^ 0x7465646279746573};
    const uint64_t words[3] = {a, b, 16ull << 56};
    for (int i = 0; i < 3; i++) {
        v[3] ^= words[i];
        rounds(v, 2);
        v[0] ^= words[i];
    }
    v[2] ^= 0xff;
    rounds(v, 4);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}
