/*
 * The program's address space as a sorted array of areas. Page tables (table.c) are a cache
 * of what stands here: fault.c fills them in.
 */
#include "file.h"

static struct vma areas[VMA_MAX];
struct space space = {.vmas = areas};

unsigned vma_index(uint64_t address) {
    unsigned low = 0, high = space.count;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (areas[middle].end > address)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

struct vma *vma_find(uint64_t address) {
    unsigned i = vma_index(address);
    return i < space.count && areas[i].start <= address ? areas + i : NULL;
}

static void remove_areas(unsigned first, unsigned n) {
    space.count -= n;
    memmove(areas + first, areas + first + n, (space.count - first) * sizeof *areas);
}

static long insert(unsigned at, struct vma area) {
    if (space.count == VMA_MAX) return -ENOMEM;
    memmove(areas + at + 1, areas + at, (space.count - at) * sizeof *areas);
    areas[at] = area;
    space.count++;
    if (area.inode) inode_map(area.inode, area.flags & MAP_SHARED);
    return 0;
}

static bool mergeable(const struct vma *a, const struct vma *b) {
    return a->end == b->start && a->prot == b->prot && a->flags == b->flags && !a->inode && !b->inode;
}

/* Joins neighbours among areas[first - 1 .. last]: keeps the array short for malloc-heavy programs. */
void space_merge(unsigned first, unsigned last) {
    for (unsigned i = first ? first - 1 : 0; i <= last && i + 1 < space.count;) {
        if (mergeable(areas + i, areas + i + 1)) {
            areas[i].end = areas[i + 1].end;
            remove_areas(i + 1, 1);
            if (last) last--;
        } else {
            i++;
        }
    }
}

long space_map(struct vma area) {
    unsigned at = vma_index(area.start);
    assert(area.start < area.end && area.end <= LS_USER_TOP);
    assert(at == space.count || areas[at].start >= area.end);
    long error = insert(at, area);
    if (!error) space_merge(at, at);
    return error;
}

/* Makes the address a boundary between areas, if it lies within one. */
long space_split(uint64_t address) {
    struct vma *whole = vma_find(address);
    if (!whole || whole->start == address) return 0;
    struct vma upper = *whole;
    upper.start = address;
    upper.offset += address - whole->start;
    long error = insert((unsigned)(whole - areas) + 1, upper);
    if (!error) whole->end = address;
    return error;
}

long space_unmap(uint64_t start, uint64_t end) {
    long error = space_split(start);
    if (!error) error = space_split(end);
    if (error) return error;
    unsigned first = vma_index(start), last = first;
    for (; last < space.count && areas[last].start < end; last++) {
        /* The frames go first: while areas map an inode, its frames stay. */
        table_unmap(areas[last].start, areas[last].end);
        if (areas[last].inode) inode_unmap(areas[last].inode, areas[last].flags & MAP_SHARED);
    }
    remove_areas(first, last - first);
    return 0;
}

/* The highest free range of this size below MMAP_TOP, as Linux chooses; 0: none. */
uint64_t space_gap(uint64_t bytes) {
    uint64_t top = MMAP_TOP;
    for (unsigned i = vma_index(MMAP_TOP - 1);; i--) {
        if (i < space.count && areas[i].start < top) {
            if (areas[i].end <= top && top - areas[i].end >= bytes) return top - bytes;
            top = areas[i].start;
        }
        if (i == 0) break;
    }
    return top >= bytes + LS_MMAP_MIN ? top - bytes : 0;
}

void space_clear(void) {
    space_unmap(0, LS_USER_TOP);
    space.brk = space.brk_start = 0;
}

/* ---- the heap ------------------------------------------------------------------------------ */

long sys_brk(uint64_t to) {
    uint64_t old = page_up(space.brk), new = page_up(to);
    if (to < space.brk_start || to > MMAP_TOP) return (long)space.brk;
    if (new > old) {
        unsigned next = vma_index(old);
        if (next < space.count && areas[next].start < new + PAGE) return (long)space.brk;
        if ((new - old) / PAGE > pages_left()) return (long)space.brk;
        struct vma heap = {old, new, NULL, 0, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS};
        if (space_map(heap)) return (long)space.brk;
        if (new - old <= EAGER_BYTES) space_populate(old, new);
    } else if (new < old) {
        space_unmap(new, old);
    }
    space.brk = to;
    return (long)to;
}
