/*
 * The program's vector and x87 state in memory. The kernel itself never touches these registers,
 * so they are saved only when another thread gets the CPU or a handler runs.
 *
 * The image lies in guest memory and must be the same in every run. What XSAVE itself stores as
 * XSTATE_BV is not, and neither are the x87 pointers: constants and a function of the values
 * take their place.
 */
#include "thread.h"

#define LEGACY_BYTES 512u
#define HEADER_BYTES 64u
#define AVX_OFFSET 576u /* the upper halves of YMM0-15, in standard form on every CPU */
#define AVX_BYTES 256u
#define AVX_BIT 4u

/* The CPU model's, not the CPU's: asked from the monitor once. */
uint32_t vectors_bytes(void) {
    static uint32_t bytes;
    if (!bytes) {
        uint32_t a = 0xd, b, c = 0, d;
        __asm__ volatile("out %%al, %4" : "+a"(a), "=b"(b), "+c"(c), "=d"(d) : "i"(LS_PORT_CPUID));
        bytes = b >= LEGACY_BYTES + HEADER_BYTES && b <= 16384 ? b : 4096;
    }
    return bytes;
}

static bool zero(const uint8_t *at, uint32_t bytes) {
    uint64_t any = 0;
    for (uint32_t i = 0; i < bytes; i += 8) any |= *(const uint64_t *)(at + i);
    return !any;
}

void vectors_save(uint8_t *area) {
    uint32_t bytes = vectors_bytes();
    memset(area, 0, bytes);
    *(uint16_t *)area = 0x37f;         /* what XSAVE leaves out has its initial value */
    *(uint32_t *)(area + 24) = 0x1f80; /* MXCSR */
    __asm__ volatile("xsave64 (%0)" ::"r"(area), "a"(boot->xcr0), "d"(0) : "memory");
    memset(area + 6, 0, 18);           /* x87 opcode, instruction and data pointers */
    *(uint32_t *)(area + 28) = 0xffff; /* the mask of MXCSR: some CPUs have a bit more */
    memset(area + LEGACY_BYTES - 48, 0, 48);
    uint64_t present = boot->xcr0;
    /* Upper halves that are zero are left out: loaded as values they would slow SSE code down. */
    if ((present & AVX_BIT) && bytes >= AVX_OFFSET + AVX_BYTES && zero(area + AVX_OFFSET, AVX_BYTES))
        present &= ~(uint64_t)AVX_BIT;
    *(uint64_t *)(area + LEGACY_BYTES) = present;
}

/* What would make XRSTOR fault is put right: the program may have edited the image. */
void vectors_restore(uint8_t *area) {
    memset(area + LEGACY_BYTES + 8, 0, HEADER_BYTES - 8);
    *(uint64_t *)(area + LEGACY_BYTES) &= boot->xcr0;
    *(uint32_t *)(area + 24) &= 0xffff;
    __asm__ volatile("xrstor64 (%0)" ::"r"(area), "a"(boot->xcr0), "d"(0) : "memory");
}
