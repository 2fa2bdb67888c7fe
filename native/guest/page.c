/*
 * Page frames and small kernel objects. Frames never handed out before are zero already
 * (fresh memory is), so a high-water mark hands them out untouched and the host never has
 * to back what nobody uses; returned frames wait in a stack and are zeroed when reused.
 */
#include "kernel.h"

static uint64_t fresh;     /* GPA of the first frame never used; 0 before the first call */
static uint32_t *returned; /* frame numbers, a stack beside the frames: freeing touches no frame */
static uint64_t returned_count;

static uint64_t fresh_start(void) {
    if (!fresh) {
        fresh = page_up(max_u64(boot->free_gpa, gpa_of(kernel_end)));
        returned = direct(fresh);
        fresh += page_up(boot->ram_bytes / PAGE * sizeof *returned);
    }
    return fresh;
}

uint64_t pages_left(void) {
    return returned_count + (boot->ram_bytes - min_u64(fresh_start(), boot->ram_bytes)) / PAGE;
}

uint64_t page_alloc(void) {
    if (returned_count) {
        uint64_t gpa = returned[--returned_count] * PAGE;
        memset(direct(gpa), 0, PAGE);
        return gpa;
    }
    uint64_t gpa = fresh_start();
    if (gpa + PAGE > boot->ram_bytes) return 0;
    fresh += PAGE;
    return gpa;
}

void page_free(uint64_t gpa) {
    assert(gpa && gpa % PAGE == 0 && gpa < fresh);
    returned[returned_count++] = (uint32_t)(gpa / PAGE);
}

void *pages_alloc(size_t count) {
    if (count == 1) {
        uint64_t gpa = page_alloc();
        return gpa ? direct(gpa) : NULL;
    }
    uint64_t gpa = fresh_start();
    if (count > (boot->ram_bytes - min_u64(gpa, boot->ram_bytes)) / PAGE) return NULL;
    fresh += count * PAGE;
    return direct(gpa);
}

/* ---- small objects: powers of two cut from pages, larger ones whole pages --------------- */
#define SMALLEST 5u /* 32 bytes */
#define CLASSES 7u  /* up to 2048 bytes */
static void *free_objects[CLASSES];

static unsigned class_of(size_t bytes) {
    unsigned class = 0;
    while (((size_t)1 << (class + SMALLEST)) < bytes) class ++;
    return class;
}

void *object_alloc(size_t bytes) {
    unsigned class = class_of(bytes);
    if (class >= CLASSES) return pages_alloc(page_up(bytes) / PAGE);
    size_t size = (size_t)1 << (class + SMALLEST);
    if (!free_objects[class]) {
        uint64_t gpa = page_alloc();
        if (!gpa) return NULL;
        for (size_t at = PAGE; at > 0; at -= size) {
            void **object = direct(gpa + at - size);
            *object = free_objects[class];
            free_objects[class] = object;
        }
    }
    void **object = free_objects[class];
    free_objects[class] = *object;
    return memset(object, 0, size);
}

void object_free(void *object, size_t bytes) {
    if (!object) return;
    unsigned class = class_of(bytes);
    if (class >= CLASSES) {
        for (uint64_t at = 0; at < bytes; at += PAGE) page_free(gpa_of(object) + at);
        return;
    }
    *(void **)object = free_objects[class];
    free_objects[class] = object;
}

/* ---- page trees ---------------------------------------------------------------------------- */
#define FANOUT 512u /* slots in a page; a tree of n levels holds 512^(n-1) frames */

static uint64_t capacity(unsigned levels) { return levels ? 1ull << (9 * (levels - 1)) : 0; }

/* The slot that holds the GPA of frame number index; NULL when absent or out of memory. */
uint64_t *page_tree_slot(struct page_tree *tree, uint64_t index, bool create) {
    while (index >= capacity(tree->levels)) {
        if (!create) return NULL;
        if (tree->root) { /* a new root above the old one */
            uint64_t above = page_alloc();
            if (!above) return NULL;
            *(uint64_t *)direct(above) = tree->root;
            tree->root = above;
        }
        tree->levels++;
    }
    uint64_t *slot = &tree->root;
    for (unsigned level = tree->levels - 1; level > 0; level--) {
        if (!*slot && (!create || !(*slot = page_alloc()))) return NULL;
        slot = (uint64_t *)direct(*slot) + (index >> (9 * (level - 1))) % FANOUT;
    }
    return slot;
}

/* Frees what lies below one slot within [first, end), counted from the slot's own first frame. */
static void cut(uint64_t *slot, unsigned level, uint64_t first, uint64_t end, bool keep_frames) {
    if (!*slot) return;
    if (level == 0) {
        if (keep_frames) {
            memset(direct(*slot), 0, PAGE);
        } else {
            page_free(*slot);
            *slot = 0;
        }
        return;
    }
    uint64_t each = 1ull << (9 * (level - 1)), *below = direct(*slot);
    for (uint64_t i = first / each; i < FANOUT && i * each < end; i++)
        cut(below + i, level - 1, first > i * each ? first - i * each : 0, min_u64(each, end - i * each),
            keep_frames);
    if (first == 0 && end >= each * FANOUT && !keep_frames) {
        page_free(*slot);
        *slot = 0;
    }
}

void page_tree_cut(struct page_tree *tree, uint64_t first, uint64_t end, bool keep_frames) {
    uint64_t room = capacity(tree->levels);
    if (first >= room) return;
    cut(&tree->root, tree->levels - 1, first, min_u64(end, room), keep_frames);
    if (!tree->root) tree->levels = 0;
}
