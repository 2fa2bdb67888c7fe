/* From a path to an inode: the one place that knows about "..", links and /proc/self/fd. */
#include "file.h"

#define LINKS_MAX 40

static int number(const char *name, size_t length) {
    int value = 0;
    if (!length || length > 5) return -1;
    for (size_t i = 0; i < length; i++) {
        if (name[i] < '0' || name[i] > '9') return -1;
        value = value * 10 + name[i] - '0';
    }
    return value;
}

/* What a link says, in front of the rest of the path; both live in place->buffer. */
static long follow(struct place *place, struct inode *link, const char *rest) {
    size_t rest_length = strlen(rest);
    char target[PATH_MAX];
    long n;
    if (link->proc)
        n = proc_link(link, target, sizeof target);
    else
        n = (long)inode_read(link, 0, target, sizeof target);
    if (n < 0) return n;
    if (n == 0) return -ENOENT;
    if ((size_t)n + rest_length + 2 > sizeof place->buffer) return -ENAMETOOLONG;
    memmove(place->buffer + n + 1, rest, rest_length + 1);
    memcpy(place->buffer, target, (size_t)n);
    place->buffer[n] = '/';
    if (!rest_length) place->buffer[n] = 0;
    return 0;
}

static long step(struct place *place, struct inode *directory, const char *name, size_t length) {
    place->directory = directory;
    place->name = name;
    place->length = length;
    place->entry = NULL;
    place->open = NULL;
    place->inode = NULL;
    if (!S_ISDIR(directory->mode)) return -ENOTDIR;
    if (length > NAME_MAX) return -ENAMETOOLONG;
    if (length == 1 && name[0] == '.') {
        place->inode = directory;
    } else if (length == 2 && name[0] == '.' && name[1] == '.') {
        place->inode = directory == root ? root : directory->parent;
    } else if (directory->proc == PROC_FDS) {
        place->open = file_get(number(name, length));
        if (!place->open) return -ENOENT;
        place->inode = place->open->inode;
    } else {
        place->entry = directory_find(directory, name, length);
        if (place->entry) place->inode = place->entry->inode;
    }
    return 0;
}

/* Walks the path in place->buffer. */
static long walk(struct place *place, struct inode *from, int flags) {
    struct inode *at = from;
    char *rest = place->buffer;
    int links = 0;
    place->directory = place->inode = from;
    place->entry = NULL;
    place->open = NULL;
    place->name = ".";
    place->length = 1;
    place->slash = false;
    if (!*rest) return flags & AT_EMPTY_PATH ? 0 : -ENOENT;
    if (*rest == '/') place->directory = place->inode = at = root;
    for (;;) {
        while (*rest == '/') rest++;
        if (!*rest) return S_ISDIR(at->mode) ? 0 : -ENOTDIR;
        char *name = rest;
        while (*rest && *rest != '/') rest++;
        size_t length = (size_t)(rest - name);
        place->slash = *rest == '/';
        while (*rest == '/') rest++;
        bool last = !*rest;
        long error = step(place, at, name, length);
        if (error) return error;
        if (!place->inode) return last ? 0 : -ENOENT;
        if (S_ISLNK(place->inode->mode) && (!last || place->slash || !(flags & AT_SYMLINK_NOFOLLOW))) {
            bool slash = place->slash;
            if (++links > LINKS_MAX) return -ELOOP;
            if ((error = follow(place, place->inode, rest))) return error;
            if (last && slash) { /* "link/" is the directory the link leads to */
                size_t n = strlen(place->buffer);
                if (n + 2 > sizeof place->buffer) return -ENAMETOOLONG;
                memcpy(place->buffer + n, "/", 2);
            }
            rest = place->buffer;
            if (*rest == '/') at = root;
            place->inode = at;
            place->directory = at;
            continue;
        }
        if (last) return place->slash && !S_ISDIR(place->inode->mode) ? -ENOTDIR : 0;
        at = place->inode;
    }
}

long path_find(struct place *place, struct inode *from, const char *path, int flags) {
    size_t length = strlen(path);
    if (length >= sizeof place->buffer) return -ENAMETOOLONG;
    memcpy(place->buffer, path, length + 1);
    return walk(place, from, flags);
}

long path_resolve(struct place *place, int dirfd, uint64_t path, int flags) {
    struct inode *from = cwd;
    long length = copy_in_string(place->buffer, path, sizeof place->buffer);
    if (length < 0) return length;
    struct file *file = NULL;
    if (place->buffer[0] != '/' && dirfd != AT_FDCWD) {
        file = file_get(dirfd);
        if (!file) return -EBADF;
        from = file->inode;
        if (length && !S_ISDIR(from->mode)) return -ENOTDIR;
    }
    long error = walk(place, from, flags);
    if (!error && !length) place->open = file;
    return error;
}

long path_existing(struct place *place, int dirfd, uint64_t path, int flags) {
    long error = path_resolve(place, dirfd, path, flags);
    return error ? error : place->inode ? 0 : -ENOENT;
}
