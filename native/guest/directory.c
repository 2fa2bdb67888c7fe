/* Directories: lists of names in the order of their creation, which is the order programs see. */
#include "file.h"

struct inode *root, *cwd;

static uint32_t hash_of(const char *name, size_t length) {
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < length; i++) hash = (hash ^ (uint8_t)name[i]) * 16777619u;
    return hash;
}

/* Whoever looks into a directory begins here: what the archive has of it is read at the first look. */
struct entry *directory_first(struct inode *directory) {
    if (directory->unread) archive_read(directory);
    return directory->first;
}

struct entry *directory_find(struct inode *directory, const char *name, size_t length) {
    uint32_t hash = hash_of(name, length);
    for (struct entry *entry = directory_first(directory); entry; entry = entry->next)
        if (entry->hash == hash && entry->length == length && !memcmp(entry->name, name, length))
            return entry;
    return NULL;
}

static void touch(struct inode *inode) { inode->mtime = inode->ctime = clock_now_still(); }

bool directory_append(struct inode *directory, const char *name, size_t length, struct inode *inode) {
    size_t bytes = sizeof(struct entry) + length + 1;
    struct entry *entry = object_alloc(bytes);
    if (!entry) return false;
    entry->allocated = (uint16_t)bytes;
    entry->length = (uint16_t)length;
    entry->hash = hash_of(name, length);
    entry->inode = inode;
    memcpy(entry->name, name, length);
    if (directory->next_cookie < 3) directory->next_cookie = 3; /* 1 and 2 are . and .. */
    entry->cookie = directory->next_cookie++;
    if (directory->last)
        directory->last->next = entry;
    else
        directory->first = entry;
    directory->last = entry;
    return true;
}

long directory_add(struct inode *directory, const char *name, size_t length, struct inode *inode) {
    if (length > NAME_MAX) return -ENAMETOOLONG;
    if (directory != root && !directory->links) return -ENOENT; /* removed meanwhile */
    directory_first(directory);                                 /* what it has already comes first */
    if (!directory_append(directory, name, length, inode)) return -ENOSPC;
    inode->links++;
    inode->ctime = clock_now_still();
    if (S_ISDIR(inode->mode)) {
        inode->parent = directory;
        inode->links++;     /* its own "." */
        directory->links++; /* its ".." */
    }
    touch(directory);
    return 0;
}

void directory_remove(struct inode *directory, struct entry *entry) {
    struct entry *before = NULL;
    for (struct entry *e = directory->first; e != entry; e = e->next) before = e;
    if (before)
        before->next = entry->next;
    else
        directory->first = entry->next;
    if (directory->last == entry) directory->last = before;
    struct inode *inode = entry->inode;
    inode->links--;
    if (S_ISDIR(inode->mode)) {
        inode->links--;
        directory->links--;
    }
    inode->ctime = clock_now_still();
    touch(directory);
    object_free(entry, entry->allocated);
    inode_use(inode); /* frees it when nobody has it open */
    inode_release(inode);
}

bool directory_contains(const struct inode *directory, const struct inode *below) {
    for (; below != root; below = below->parent)
        if (below == directory) return true;
    return directory == root;
}

/* Written from the end, as the way leads upwards. */
long directory_path(struct inode *directory, char *to, size_t size) {
    size_t at = size;
    if (directory != root && !directory->links) return -ENOENT;
    for (struct inode *inode = directory; inode != root; inode = inode->parent) {
        struct entry *entry = inode->parent->first;
        while (entry && entry->inode != inode) entry = entry->next;
        if (!entry) return -ENOENT;
        if (at < entry->length + 2u) return -ERANGE;
        at -= entry->length;
        memcpy(to + at, entry->name, entry->length);
        to[--at] = '/';
    }
    if (at == size) to[--at] = '/';
    size_t length = size - at;
    memmove(to, to + at, length);
    if (length >= size) return -ERANGE;
    to[length] = 0;
    return (long)length;
}
