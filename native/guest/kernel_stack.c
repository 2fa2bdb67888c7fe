/*
 * Kernel stacks: a few frames each, mapped in a region of their own so that an unmapped page lies
 * below every one. Some stay mapped for the next thread, because unmapping costs a flush.
 */
#include "thread.h"

#define REGION (LS_DIRECT_MAP + (512ull << 30)) /* PML4 slot 253, above the direct map */
#define STRIDE (KERNEL_STACK_BYTES + PAGE)
#define KEPT 32u

static uint16_t idle[THREADS_MAX]; /* numbers of stacks given back */
static uint32_t idle_count, used, mapped_idle;

static uint64_t bottom_of(uint32_t number) { return REGION + number * STRIDE + PAGE; }

static void unmap(uint64_t bottom) {
    bool stale = false;
    for (uint64_t at = bottom; at < bottom + KERNEL_STACK_BYTES; at += PAGE) {
        uint64_t *entry = table_slot(at, false);
        if (!entry || !*entry) continue;
        page_free(*entry & PTE_FRAME);
        *entry = 0;
        stale = true;
    }
    if (stale) flush_all();
}

uint64_t kernel_stack_alloc(void) {
    if (!idle_count && used == THREADS_MAX) return 0;
    uint32_t number = idle_count ? idle[--idle_count] : used++;
    uint64_t bottom = bottom_of(number);
    for (uint64_t at = bottom; at < bottom + KERNEL_STACK_BYTES; at += PAGE) {
        uint64_t *entry = table_slot(at, true), frame = 0;
        if (entry && *entry) {
            if (at == bottom) mapped_idle--;
            continue;
        }
        if (!entry || !(frame = page_alloc())) {
            unmap(bottom);
            idle[idle_count++] = (uint16_t)number;
            return 0;
        }
        *entry = frame | pte_flags(PROT_READ | PROT_WRITE);
    }
    return bottom + KERNEL_STACK_BYTES;
}

void kernel_stack_free(uint64_t top) {
    uint64_t bottom = top - KERNEL_STACK_BYTES;
    if (bottom < REGION) return; /* the first thread's is part of the kernel */
    if (mapped_idle < KEPT)
        mapped_idle++;
    else
        unmap(bottom);
    idle[idle_count++] = (uint16_t)((bottom - REGION) / STRIDE);
}
