/*
 * Page tables. The kernel edits them through the direct map, at CPL 3 like everything else.
 * Adding a page needs no flush; any other change does, and a flush is a trip to CPL 0 (10 us
 * on some hosts), so each operation makes one at its end and only if something present changed.
 */
#include "kernel.h"

void flush_page(uint64_t address) { service(service_flush_page, address); }
void flush_all(void) { service(service_flush_all, LS_GPA_TABLES); }

uint64_t *table_slot(uint64_t address, bool create) {
    uint64_t *table = direct(LS_GPA_TABLES);
    for (int shift = 39; shift > 12; shift -= 9) {
        uint64_t *entry = table + ((address >> shift) & 511);
        if (!*entry) {
            uint64_t gpa = create ? page_alloc() : 0;
            if (!gpa) return NULL;
            *entry = gpa | PTE_BASE | PTE_WRITE;
        }
        table = direct(*entry & PTE_FRAME);
    }
    return table + ((address >> 12) & 511);
}

/* The address itself when its table exists, else where the missing table's reach ends. */
static uint64_t past_missing(uint64_t address) {
    uint64_t *table = direct(LS_GPA_TABLES);
    for (int shift = 39; shift > 12; shift -= 9) {
        uint64_t entry = table[(address >> shift) & 511];
        if (!entry) return ((address >> shift) + 1) << shift;
        table = direct(entry & PTE_FRAME);
    }
    return address;
}

/* The first address from here on that has a table, or the end of the program's half. */
static uint64_t table_next(uint64_t address) {
    for (uint64_t next; address < LS_USER_TOP; address = next)
        if ((next = past_missing(address)) == address) return address;
    return LS_USER_TOP;
}

/* A page without any access keeps its frame but not the present bit. */
uint64_t pte_flags(unsigned prot) {
    if (!(prot & (PROT_READ | PROT_WRITE | PROT_EXEC))) return PTE_BASE & ~PTE_PRESENT;
    return PTE_BASE | (prot & PROT_WRITE ? PTE_WRITE : 0) | (prot & PROT_EXEC ? 0 : PTE_NX);
}

/* For every entry in use in the range. */
#define for_each_entry(address, entry, start, end)                                                           \
    for (uint64_t address = table_next(start), *entry; address < (end);                                      \
         address = table_next(address + PAGE))                                                               \
        if (*(entry = table_slot(address, false)))

void table_unmap(uint64_t start, uint64_t end) {
    bool stale = false;
    for_each_entry(address, entry, start, end) {
        stale |= *entry & PTE_PRESENT;
        if (!(*entry & PTE_BORROWED)) page_free(*entry & PTE_FRAME);
        *entry = 0;
    }
    if (stale) flush_all();
}

void table_protect(uint64_t start, uint64_t end, unsigned prot) {
    bool stale = false;
    for_each_entry(address, entry, start, end) {
        uint64_t old = *entry, flags = pte_flags(prot);
        if (old & PTE_BORROWED) flags &= ~PTE_WRITE; /* a write faults and gets its own copy */
        *entry = (old & (PTE_FRAME | PTE_BORROWED)) | flags;
        stale |= (old & PTE_PRESENT) && *entry != old;
    }
    if (stale) flush_all();
}

/* Moves entries to another place (mremap); false, with nothing moved, without memory for tables. */
bool table_move(uint64_t from, uint64_t to, uint64_t bytes) {
    for (uint64_t at = 0; at < bytes; at += 1 << 21)
        if (!table_slot(to + at, true)) return false;
    if (bytes && !table_slot(to + bytes - PAGE, true)) return false;
    for_each_entry(address, entry, from, from + bytes) {
        *table_slot(to + (address - from), false) = *entry;
        *entry = 0;
    }
    flush_all();
    return true;
}
