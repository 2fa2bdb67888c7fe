/* Sorted, disjoint ranges of sequence numbers: what arrived out of order, what the peer says it has. */
#include "stack.h"

/* False: no room for one more range; nothing was added. */
bool ranges_add(struct ranges *set, uint64_t start, uint64_t end) {
    unsigned first = 0, last;
    while (first < set->count && set->range[first].end < start) first++;
    for (last = first; last < set->count && set->range[last].start <= end; last++) {
        start = min_u64(start, set->range[last].start);
        end = max_u64(end, set->range[last].end);
    }
    if (last == first && set->count == RANGES_MAX) return false;
    memmove(set->range + first + 1, set->range + last, (set->count - last) * sizeof *set->range);
    set->count = set->count - (last - first) + 1;
    set->range[first] = (struct range){start, end};
    return true;
}

void ranges_cut(struct ranges *set, uint64_t below) {
    unsigned gone = 0;
    while (gone < set->count && set->range[gone].end <= below) gone++;
    memmove(set->range, set->range + gone, (set->count - gone) * sizeof *set->range);
    set->count -= gone;
    if (set->count && set->range[0].start < below) set->range[0].start = below;
}

uint64_t ranges_bytes(const struct ranges *set, uint64_t above) {
    uint64_t bytes = 0;
    for (unsigned i = 0; set && i < set->count; i++)
        if (set->range[i].end > above) bytes += set->range[i].end - max_u64(set->range[i].start, above);
    return bytes;
}
