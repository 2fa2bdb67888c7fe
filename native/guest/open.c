/* Opening, and the two plain kinds of open file: regular files and directories. */
#include "file.h"

static uint32_t umask_bits = 022;

long sys_umask(uint32_t mask) {
    uint32_t old = umask_bits;
    umask_bits = mask & 0777;
    return old;
}

static long regular_read(struct file *file, void *to, size_t bytes, uint64_t *offset) {
    size_t n = inode_read(file->inode, *offset, to, bytes);
    *offset += n;
    return (long)n;
}

static long regular_write(struct file *file, const void *from, size_t bytes, uint64_t *offset) {
    if (file->flags & O_APPEND) *offset = file->inode->size;
    long n = inode_write(file->inode, *offset, from, bytes);
    if (n > 0) *offset += (uint64_t)n;
    return n;
}

static unsigned always_ready(struct file *file) {
    (void)file;
    return POLLIN | POLLOUT;
}

const struct file_ops regular_ops = {
    .read = regular_read, .write = regular_write, .poll = always_ready, .seekable = true};

static long directory_read(struct file *file, void *to, size_t bytes, uint64_t *offset) {
    (void)file, (void)to, (void)bytes, (void)offset;
    return -EISDIR;
}

const struct file_ops directory_ops = {.read = directory_read, .poll = always_ready, .seekable = true};

/* ---- creating ---------------------------------------------------------------------------- */
static struct inode *create(struct place *place, uint32_t mode, long *error) {
    struct inode *inode = NULL;
    *error = -ENOSPC;
    if (place->slash && !S_ISDIR(mode))
        *error = -EISDIR;
    else if (place->directory->proc)
        *error = -ENOENT;
    else
        inode = inode_new(mode);
    if (!inode) return NULL;
    *error = directory_add(place->directory, place->name, place->length, inode);
    if (!*error) return inode;
    object_free(inode, sizeof *inode);
    return NULL;
}

static struct place place; /* system calls do not nest */

static long make(int dirfd, uint64_t path, uint32_t mode, struct inode **made) {
    long error = path_resolve(&place, dirfd, path, AT_SYMLINK_NOFOLLOW);
    if (error) return error;
    if (place.inode) return -EEXIST;
    *made = create(&place, mode, &error);
    return error;
}

long sys_mkdirat(int dirfd, uint64_t path, uint32_t mode) {
    struct inode *inode;
    return make(dirfd, path, S_IFDIR | (mode & 01777 & ~umask_bits), &inode);
}

long sys_mkdir(uint64_t path, uint32_t mode) { return sys_mkdirat(AT_FDCWD, path, mode); }

long sys_mknodat(int dirfd, uint64_t path, uint32_t mode, uint64_t rdev) {
    struct inode *inode;
    if (!(mode & S_IFMT)) mode |= S_IFREG;
    if (S_ISDIR(mode) || S_ISLNK(mode)) return -EINVAL;
    long error = make(dirfd, path, mode & ~umask_bits, &inode);
    if (!error) inode->rdev = (uint32_t)rdev;
    return error;
}

long sys_mknod(uint64_t path, uint32_t mode, uint64_t rdev) {
    return sys_mknodat(AT_FDCWD, path, mode, rdev);
}

long sys_symlinkat(uint64_t target, int dirfd, uint64_t path) {
    static char text[PATH_MAX];
    struct inode *inode;
    long length = copy_in_string(text, target, sizeof text);
    if (length <= 0) return length ? length : -ENOENT;
    long error = make(dirfd, path, S_IFLNK | 0777, &inode);
    if (error) return error;
    error = inode_write(inode, 0, text, (size_t)length);
    return error < 0 ? error : 0;
}

long sys_symlink(uint64_t target, uint64_t path) { return sys_symlinkat(target, AT_FDCWD, path); }

/* ---- opening ------------------------------------------------------------------------------- */
static struct file *open_inode(struct inode *inode, uint32_t flags) {
    if (flags & O_PATH) return file_new(&directory_ops, inode, flags);
    if (S_ISDIR(inode->mode)) return file_new(&directory_ops, inode, flags);
    if (S_ISFIFO(inode->mode)) return pipe_open(inode, flags);
    if (S_ISCHR(inode->mode)) {
        if (inode->rdev == DEV_TTY || inode->rdev == DEV_CONSOLE) return console_open(flags);
        return file_new(&device_ops, inode, flags);
    }
    if (inode->proc) {
        struct inode *text = proc_open(inode);
        struct file *file = text ? file_new(&regular_ops, text, flags) : NULL;
        if (text) inode_release(text);
        return file;
    }
    return file_new(&regular_ops, inode, flags);
}

long file_open(struct place *at, uint32_t flags, uint32_t mode, struct file **opened) {
    struct inode *inode = at->inode;
    long error = 0;
    bool writes = (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);
    if (!inode) {
        if (!(flags & O_CREAT)) return -ENOENT;
        inode = create(at, S_IFREG | (mode & 07777 & ~umask_bits), &error);
        if (error) return error;
    } else {
        if ((flags & O_CREAT) && (flags & O_EXCL)) return -EEXIST;
        if (S_ISLNK(inode->mode) && !(flags & O_PATH)) return -ELOOP;
        if ((flags & O_DIRECTORY) && !S_ISDIR(inode->mode)) return -ENOTDIR;
        if (S_ISDIR(inode->mode) && (writes || (flags & O_CREAT))) return -EISDIR;
        if (S_ISSOCK(inode->mode) || (S_ISCHR(inode->mode) && inode->rdev == DEV_TTY && !boot->flags))
            return -ENXIO;
        if (S_ISREG(inode->mode) && writes && inode->proc) return -EACCES;
        if (S_ISREG(inode->mode) && (flags & O_TRUNC)) error = inode_resize(inode, 0);
        if (error) return error;
    }
    if (at->open && !S_ISREG(inode->mode) && !S_ISDIR(inode->mode)) { /* /dev/stdin and the like */
        at->open->uses++;
        *opened = at->open;
        return 0;
    }
    struct file *file =
        open_inode(inode, flags & ~(uint32_t)(O_CREAT | O_EXCL | O_TRUNC | O_CLOEXEC | O_NOCTTY));
    if (!file) return -ENFILE;
    *opened = file;
    return 0;
}

/* The name by which /proc/self/fd knows the file. */
static void remember_path(struct file *file, struct place *at) {
    static char text[2 * PATH_MAX];
    long n = directory_path(at->directory, text, PATH_MAX);
    if (n < 0 || at->open || file->path) return;
    if (!(at->length == 1 && at->name[0] == '.')) {
        if (n > 1) text[n++] = '/';
        memcpy(text + n, at->name, at->length);
        n += (long)at->length;
    }
    text[n] = 0;
    file->path = object_alloc((size_t)n + 1);
    if (file->path) memcpy(file->path, text, (size_t)n + 1);
}

long sys_openat(int dirfd, uint64_t path, uint32_t flags, uint32_t mode) {
    struct file *file;
    bool stay = (flags & O_NOFOLLOW) || ((flags & O_CREAT) && (flags & O_EXCL));
    if ((flags & __O_TMPFILE) == __O_TMPFILE) return -EOPNOTSUPP;
    long error = path_resolve(&place, dirfd, path, stay ? AT_SYMLINK_NOFOLLOW : 0);
    if (!error) error = file_open(&place, flags | O_LARGEFILE, mode, &file);
    if (error) return error;
    remember_path(file, &place);
    return descriptor_new(file, 0, flags & O_CLOEXEC);
}

long sys_open(uint64_t path, uint32_t flags, uint32_t mode) {
    return sys_openat(AT_FDCWD, path, flags, mode);
}
long sys_creat(uint64_t path, uint32_t mode) {
    return sys_openat(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
