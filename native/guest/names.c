/* Names: listing, linking, renaming and removing them, and where the program stands among them. */
#include "file.h"

static struct place place, other;

long sys_getcwd(uint64_t to, uint64_t size) {
    static char text[PATH_MAX];
    long n = directory_path(cwd, text, sizeof text);
    if (n < 0) return n;
    if ((uint64_t)n + 1 > size) return -ERANGE;
    return copy_out(to, text, (size_t)n + 1) ?: n + 1;
}

static long change_directory(struct inode *inode) {
    if (!S_ISDIR(inode->mode)) return -ENOTDIR;
    inode_use(inode);
    inode_release(cwd);
    cwd = inode;
    return 0;
}

long sys_chdir(uint64_t path) {
    return path_existing(&place, AT_FDCWD, path, 0) ?: change_directory(place.inode);
}

long sys_fchdir(int fd) {
    struct file *file = file_get(fd);
    return file ? change_directory(file->inode) : -EBADF;
}

/* ---- listing ------------------------------------------------------------------------------- */
struct record { /* struct linux_dirent64 */
    uint64_t number;
    int64_t next;
    uint16_t bytes;
    uint8_t type;
    char name[];
} __attribute__((packed));

struct listing {
    uint64_t to, used, size;
};

/* False when the record does not fit any more. */
static bool emit(struct listing *list, const struct inode *inode, const char *name, size_t length,
                 uint64_t cookie) {
    uint64_t bytes = (sizeof(struct record) + length + 1 + 7) & ~7ull;
    if (list->used + bytes > list->size) return false;
    struct record *record = (void *)(list->to + list->used);
    memset(record, 0, bytes);
    record->number = inode->number;
    record->next = (int64_t)cookie;
    record->bytes = (uint16_t)bytes;
    record->type = (uint8_t)((inode->mode & S_IFMT) >> 12);
    memcpy(record->name, name, length);
    list->used += bytes;
    return true;
}

static bool list_descriptors(struct listing *list, struct file *file) {
    for (int fd = (int)min_u64(file->offset - 2, FILES_MAX); (fd = descriptor_next(fd)) >= 0; fd++) {
        char name[12];
        int n = format(name, sizeof name, "%d", fd);
        if (!emit(list, file_get(fd)->inode, name, (size_t)n, (uint64_t)fd + 3)) return false;
        file->offset = (uint64_t)fd + 3;
    }
    return true;
}

static bool list_entries(struct listing *list, struct file *file) {
    for (struct entry *entry = directory_first(file->inode); entry; entry = entry->next) {
        if (entry->cookie <= file->offset) continue;
        if (!emit(list, entry->inode, entry->name, entry->length, entry->cookie)) return false;
        file->offset = entry->cookie;
    }
    return true;
}

/* file->offset is the cookie of the last name given: 1 for ".", 2 for "..". */
long sys_getdents64(int fd, uint64_t to, uint64_t size) {
    struct file *file = file_get(fd);
    if (!file) return -EBADF;
    if (!S_ISDIR(file->inode->mode)) return -ENOTDIR;
    struct listing list = {to, 0, user_span(to, size, true)};
    if (!list.size) return -EFAULT;
    bool all = true;
    if (file->offset < 1 && (all = emit(&list, file->inode, ".", 1, 1))) file->offset = 1;
    if (all && file->offset < 2 && (all = emit(&list, file->inode->parent, "..", 2, 2))) file->offset = 2;
    if (all) all = file->inode->proc == PROC_FDS ? list_descriptors(&list, file) : list_entries(&list, file);
    return !all && !list.used ? -EINVAL : (long)list.used;
}

/* ---- links ------------------------------------------------------------------------------------ */
static long link_text(struct place *at, char *text, size_t size) {
    if (at->open && at->name && at->directory->proc == PROC_FDS) { /* /proc/self/fd/N */
        if (at->open->path) return format(text, size, "%s", at->open->path);
        if (S_ISCHR(at->inode->mode)) return format(text, size, "/dev/pts/0");
        return format(text, size, "pipe:[%lu]", at->inode->number);
    }
    if (!S_ISLNK(at->inode->mode)) return -EINVAL;
    if (at->inode->proc) return proc_link(at->inode, text, size);
    return (long)inode_read(at->inode, 0, text, size);
}

long sys_readlinkat(int dirfd, uint64_t path, uint64_t to, uint64_t size) {
    static char text[PATH_MAX];
    long error = path_existing(&place, dirfd, path, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH);
    if (error) return error;
    if ((int64_t)size <= 0) return -EINVAL;
    long n = link_text(&place, text, sizeof text);
    if (n < 0) return n;
    n = (long)min_u64((uint64_t)n, size);
    return copy_out(to, text, (size_t)n) ?: n;
}

long sys_readlink(uint64_t path, uint64_t to, uint64_t size) {
    return sys_readlinkat(AT_FDCWD, path, to, size);
}

long sys_linkat(int from_fd, uint64_t from, int to_fd, uint64_t to, int flags) {
    long error =
        path_existing(&place, from_fd, from,
                      flags & AT_SYMLINK_FOLLOW ? flags & AT_EMPTY_PATH : flags | AT_SYMLINK_NOFOLLOW);
    if (!error) error = path_resolve(&other, to_fd, to, AT_SYMLINK_NOFOLLOW);
    if (error) return error;
    if (other.inode) return -EEXIST;
    if (S_ISDIR(place.inode->mode) || place.inode->proc || other.directory->proc) return -EPERM;
    if (other.slash) return -ENOENT;
    return directory_add(other.directory, other.name, other.length, place.inode);
}

long sys_link(uint64_t from, uint64_t to) { return sys_linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

/* ---- removing ---------------------------------------------------------------------------------- */
long sys_unlinkat(int dirfd, uint64_t path, int flags) {
    long error = path_existing(&place, dirfd, path, AT_SYMLINK_NOFOLLOW);
    if (error) return error;
    bool directory = S_ISDIR(place.inode->mode);
    if (flags & AT_REMOVEDIR) {
        if (!directory) return -ENOTDIR;
        if (!place.entry) return place.inode == root ? -EBUSY : place.length == 1 ? -EINVAL : -ENOTEMPTY;
        if (directory_first(place.inode)) return -ENOTEMPTY;
    } else if (directory) {
        return -EISDIR;
    }
    if (!place.entry) return -EPERM;
    directory_remove(place.directory, place.entry);
    return 0;
}

long sys_unlink(uint64_t path) { return sys_unlinkat(AT_FDCWD, path, 0); }
long sys_rmdir(uint64_t path) { return sys_unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

/* ---- renaming ----------------------------------------------------------------------------------- */
#define RENAME_NOREPLACE 1u
#define RENAME_EXCHANGE 2u

static long replaceable(const struct inode *moved, struct inode *old) {
    if (S_ISDIR(old->mode) && !S_ISDIR(moved->mode)) return -EISDIR;
    if (!S_ISDIR(old->mode) && S_ISDIR(moved->mode)) return -ENOTDIR;
    return S_ISDIR(old->mode) && directory_first(old) ? -ENOTEMPTY : 0;
}

long sys_renameat2(int from_fd, uint64_t from, int to_fd, uint64_t to, unsigned flags) {
    if (flags & ~RENAME_NOREPLACE) return -EINVAL; /* RENAME_EXCHANGE is not worth its code here */
    long error = path_existing(&place, from_fd, from, AT_SYMLINK_NOFOLLOW);
    if (!error) error = path_resolve(&other, to_fd, to, AT_SYMLINK_NOFOLLOW);
    if (error) return error;
    struct inode *moved = place.inode;
    if (!place.entry || (other.inode && !other.entry)) return -EBUSY;
    if ((place.slash || other.slash) && !S_ISDIR(moved->mode)) return -ENOTDIR;
    if (other.directory->proc) return -EPERM;
    if (S_ISDIR(moved->mode) && directory_contains(moved, other.directory)) return -EINVAL;
    if (other.inode) {
        if (flags & RENAME_NOREPLACE) return -EEXIST;
        if (other.inode == moved) return 0;
        if ((error = replaceable(moved, other.inode))) return error;
    }
    if (other.length > NAME_MAX) return -ENAMETOOLONG;
    inode_use(moved);
    if (other.entry) directory_remove(other.directory, other.entry);
    error = directory_add(other.directory, other.name, other.length, moved);
    if (!error) { /* the older of the two entries goes */
        struct entry *entry = place.entry;
        directory_remove(place.directory, entry);
        if (S_ISDIR(moved->mode)) moved->parent = other.directory;
    }
    inode_release(moved);
    return error;
}

long sys_renameat(int from_fd, uint64_t from, int to_fd, uint64_t to) {
    return sys_renameat2(from_fd, from, to_fd, to, 0);
}
long sys_rename(uint64_t from, uint64_t to) { return sys_renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }
