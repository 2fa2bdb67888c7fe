#include "control_tree.h"

/*
 * The way down is kept here and not on the stack, so that no depth of directories is too much for it;
 * one that a path could not name is refused.
 */
#define DEPTH_MAX (PATH_MAX / 2)
static const struct entry *way[DEPTH_MAX];
static char name[PATH_MAX];

/* Small pieces leave together: each sending costs an exit. */
static uint8_t buffer[16384];
static uint32_t used;

static void flush(void) {
    if (used) exchange_send(LS_CH_CONTROL, buffer, used);
    used = 0;
}

static void put(const void *bytes, size_t length) {
    for (size_t done = 0; done < length;) {
        if (used == sizeof buffer) flush();
        size_t n = min_u64(length - done, sizeof buffer - used);
        memcpy(buffer + used, (const uint8_t *)bytes + done, n);
        used += (uint32_t)n;
        done += n;
    }
}

static bool has_contents(const struct inode *inode) {
    return !inode->proc && (S_ISREG(inode->mode) || S_ISLNK(inode->mode));
}

static bool has_names(const struct inode *inode) { return !inode->proc && S_ISDIR(inode->mode); }

static uint64_t one(struct inode *inode, uint32_t name_bytes, bool really) {
    struct ls_tree_entry head = {.mode = inode->proc ? 0 : inode->mode,
                                 .name_bytes = name_bytes,
                                 .bytes = has_contents(inode) ? inode->size : 0};
    if (!really) return sizeof head + name_bytes + head.bytes;
    put(&head, sizeof head);
    put(name, name_bytes);
    for (uint64_t at = 0; at < head.bytes;) {
        if (used == sizeof buffer) flush();
        size_t n = inode_read(inode, at, buffer + used, min_u64(head.bytes - at, sizeof buffer - used));
        used += (uint32_t)n;
        at += n;
    }
    return 0;
}

static long walk(struct inode *top, bool really, uint64_t *total) {
    uint32_t depth = 0, length = 0;
    *total = one(top, 0, really);
    way[0] = has_names(top) ? directory_first(top) : NULL;
    for (;;) {
        const struct entry *entry = way[depth];
        if (!entry) {
            if (depth == 0) return 0;
            /* Back up: the last name goes, and the slash before it. */
            depth--;
            length -= way[depth]->length;
            if (length) length--;
            way[depth] = way[depth]->next;
            continue;
        }
        uint32_t before = length;
        if (length + 1 + entry->length > sizeof name) return -ENAMETOOLONG;
        if (length) name[length++] = '/';
        memcpy(name + length, entry->name, entry->length);
        length += entry->length;
        *total += one(entry->inode, length, really);
        if (has_names(entry->inode)) {
            if (++depth == DEPTH_MAX) return -ENAMETOOLONG;
            way[depth] = directory_first(entry->inode);
        } else {
            length = before;
            way[depth] = entry->next;
        }
    }
}

long tree_measure(struct inode *top, uint64_t *bytes) {
    uint64_t total;
    long error = walk(top, false, &total);
    *bytes = error ? 0 : total;
    return error;
}

void tree_send(struct inode *top) {
    uint64_t total;
    walk(top, true, &total);
    flush();
}
