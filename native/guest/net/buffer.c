/*
 * A window over a byte stream. Bytes are found by their position in the stream, which for TCP is
 * the sequence number, so data that arrives out of order is put at once where it belongs. The
 * pages hang in a ring of slots that doubles when the window outgrows it.
 */
#include "stack.h"

#define SLOTS_FIRST 16u
#define SLOTS_PER_TABLE 512u

static uint8_t **slot_of(const struct buffer *b, uint64_t at) {
    uint64_t index = at / PAGE & (b->slots - 1);
    return &b->table[index / SLOTS_PER_TABLE][index % SLOTS_PER_TABLE];
}

static size_t table_bytes(uint32_t slots) { return min_u64(slots, SLOTS_PER_TABLE) * sizeof(uint8_t *); }

static void free_tables(struct buffer *b) {
    for (uint32_t i = 0; i * SLOTS_PER_TABLE < b->slots; i++) object_free(b->table[i], table_bytes(b->slots));
}

/* Makes the ring long enough for the position, and moves the pages to their places in it. */
static bool reach(struct buffer *b, uint64_t at) {
    uint64_t first = b->start / PAGE, needed = at / PAGE - first + 1;
    if (needed <= b->slots) return true;
    struct buffer wide = *b;
    for (wide.slots = max_u64(b->slots, SLOTS_FIRST); wide.slots < needed;) wide.slots *= 2;
    if (wide.slots > BUFFER_TABLES * SLOTS_PER_TABLE) return false;
    for (uint32_t i = 0; i < BUFFER_TABLES; i++) wide.table[i] = NULL;
    for (uint32_t i = 0; i * SLOTS_PER_TABLE < wide.slots; i++) {
        if ((wide.table[i] = object_alloc(table_bytes(wide.slots)))) continue;
        while (i--) object_free(wide.table[i], table_bytes(wide.slots));
        return false;
    }
    for (uint64_t page = first; page < first + b->slots; page++)
        *slot_of(&wide, page * PAGE) = *slot_of(b, page * PAGE);
    free_tables(b);
    *b = wide;
    return true;
}

size_t buffer_put(struct buffer *b, uint64_t at, const void *from, size_t bytes) {
    size_t done = 0;
    if (bytes && !reach(b, at + bytes - 1)) return 0;
    while (done < bytes) {
        uint8_t **slot = slot_of(b, at);
        size_t n = min_u64(bytes - done, PAGE - at % PAGE);
        if (!*slot) {
            if (net->pages >= net->pages_max && b->pages) break;
            if (!(*slot = pages_alloc(1))) break;
            b->pages++, net->pages++;
        }
        memcpy(*slot + at % PAGE, (const uint8_t *)from + done, n);
        done += n, at += n;
    }
    return done;
}

void buffer_get(const struct buffer *b, uint64_t at, void *to, size_t bytes) {
    for (size_t done = 0, n; done < bytes; done += n, at += n) {
        n = min_u64(bytes - done, PAGE - at % PAGE);
        memcpy((uint8_t *)to + done, *slot_of(b, at) + at % PAGE, n);
    }
}

uint64_t buffer_get_sum(const struct buffer *b, uint64_t at, void *to, size_t bytes) {
    uint64_t sum = 0;
    for (size_t done = 0, n; done < bytes; done += n, at += n) {
        n = min_u64(bytes - done, PAGE - at % PAGE);
        uint64_t part = sum_copy((uint8_t *)to + done, *slot_of(b, at) + at % PAGE, n, 0);
        sum += done % 2 ? sum_shifted(part) : part;
    }
    return sum;
}

static void free_page(struct buffer *b, uint8_t **slot) {
    if (!*slot) return;
    page_free(gpa_of(*slot));
    *slot = NULL;
    b->pages--, net->pages--;
}

void buffer_drop(struct buffer *b, uint64_t start) {
    for (uint64_t page = b->start / PAGE; page < start / PAGE && b->pages; page++)
        free_page(b, slot_of(b, page * PAGE));
    b->start = start;
}

void buffer_free(struct buffer *b) {
    for (uint64_t i = 0; i < b->slots && b->pages; i++) free_page(b, slot_of(b, i * PAGE));
    free_tables(b);
    for (uint32_t i = 0; i < BUFFER_TABLES; i++) b->table[i] = NULL;
    b->slots = 0;
}
