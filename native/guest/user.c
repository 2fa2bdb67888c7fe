/*
 * The program's pointers. Checked against the areas of its address space, which end below
 * the direct map: nothing the program passes can make the kernel touch its own memory, and
 * no pointer that passed the check can fault for good.
 */
#include "kernel.h"

uint64_t user_span(uint64_t address, uint64_t bytes, bool write) {
    uint64_t at = address, end = address + bytes;
    if (end < address || end > LS_USER_TOP) end = LS_USER_TOP;
    unsigned wanted = write ? PROT_WRITE : PROT_READ | PROT_WRITE | PROT_EXEC;
    for (unsigned i = vma_index(address); at < end && i < space.count; i++) {
        const struct vma *area = space.vmas + i;
        if (area->start > at || !(area->prot & wanted)) break;
        at = area->end;
    }
    return min_u64(at, end) - min_u64(address, min_u64(at, end));
}

bool user_ok(uint64_t address, uint64_t bytes, bool write) {
    return user_span(address, bytes, write) == bytes;
}

long copy_in(void *to, uint64_t from, size_t bytes) {
    if (!user_ok(from, bytes, false)) return -EFAULT;
    memcpy(to, (const void *)from, bytes);
    return 0;
}

long copy_out(uint64_t to, const void *from, size_t bytes) {
    if (!user_ok(to, bytes, true)) return -EFAULT;
    memcpy((void *)to, from, bytes);
    return 0;
}

long copy_in_string(char *to, uint64_t from, size_t size) {
    size_t span = user_span(from, size, false);
    for (size_t n = 0; n < span; n++)
        if (!(to[n] = ((const char *)from)[n])) return (long)n;
    return span < size ? -EFAULT : -ENAMETOOLONG;
}
