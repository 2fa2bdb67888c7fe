/* What is known about a file: stat in its forms, access, modes, owners, times, file systems. */
#include "file.h"
#include <asm/statfs.h>

static struct place place;

#define DEVICE 0x17u /* st_dev of everything */
#define CHOWN_KEEP 0xffffffffu

static struct timespec timespec_of(uint64_t ns) {
    return (struct timespec){(long)(ns / NS_PER_SECOND), (long)(ns % NS_PER_SECOND)};
}

static long put_stat(const struct inode *inode, uint64_t to) {
    struct timespec a = timespec_of(inode->atime), m = timespec_of(inode->mtime),
                    c = timespec_of(inode->ctime);
    struct stat value = {
        .st_dev = DEVICE,
        .st_ino = inode->number,
        .st_nlink = inode->links,
        .st_mode = inode->mode,
        .st_uid = inode->uid,
        .st_gid = inode->gid,
        .st_rdev = inode->rdev,
        .st_size = S_ISDIR(inode->mode) ? (long)PAGE : (long)inode->size,
        .st_blksize = PAGE,
        .st_blocks = (long)inode_pages(inode) * 8,
        .st_atime = (unsigned long)a.tv_sec,
        .st_atime_nsec = (unsigned long)a.tv_nsec,
        .st_mtime = (unsigned long)m.tv_sec,
        .st_mtime_nsec = (unsigned long)m.tv_nsec,
        .st_ctime = (unsigned long)c.tv_sec,
        .st_ctime_nsec = (unsigned long)c.tv_nsec,
    };
    return copy_out(to, &value, sizeof value);
}

long sys_newfstatat(int dirfd, uint64_t path, uint64_t to, int flags) {
    long error = path_existing(&place, dirfd, path, flags);
    return error ? error : put_stat(place.inode, to);
}

long sys_stat(uint64_t path, uint64_t to) { return sys_newfstatat(AT_FDCWD, path, to, 0); }
long sys_lstat(uint64_t path, uint64_t to) { return sys_newfstatat(AT_FDCWD, path, to, AT_SYMLINK_NOFOLLOW); }

long sys_fstat(int fd, uint64_t to) {
    struct file *file = file_get(fd);
    return file ? put_stat(file->inode, to) : -EBADF;
}

static struct statx_timestamp statx_time(uint64_t ns) {
    return (struct statx_timestamp){.tv_sec = (int64_t)(ns / NS_PER_SECOND),
                                    .tv_nsec = (uint32_t)(ns % NS_PER_SECOND)};
}

long sys_statx(int dirfd, uint64_t path, int flags, unsigned mask, uint64_t to) {
    (void)mask;
    long error = path_existing(&place, dirfd, path, flags);
    if (error) return error;
    const struct inode *inode = place.inode;
    struct statx value = {
        .stx_mask = STATX_BASIC_STATS,
        .stx_blksize = PAGE,
        .stx_nlink = inode->links,
        .stx_uid = inode->uid,
        .stx_gid = inode->gid,
        .stx_mode = (uint16_t)inode->mode,
        .stx_ino = inode->number,
        .stx_size = S_ISDIR(inode->mode) ? PAGE : inode->size,
        .stx_blocks = inode_pages(inode) * 8,
        .stx_atime = statx_time(inode->atime),
        .stx_mtime = statx_time(inode->mtime),
        .stx_ctime = statx_time(inode->ctime),
        .stx_rdev_major = inode->rdev >> 8,
        .stx_rdev_minor = inode->rdev & 255,
        .stx_dev_minor = DEVICE,
    };
    return copy_out(to, &value, sizeof value);
}

/* The program is root: everything is allowed but executing what nobody may execute. */
long sys_faccessat2(int dirfd, uint64_t path, unsigned wanted, int flags) {
    if (wanted > 7) return -EINVAL;
    long error = path_existing(&place, dirfd, path, flags & (AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH));
    if (error) return error;
    bool executable = S_ISDIR(place.inode->mode) || (place.inode->mode & 0111);
    return (wanted & 1) && !executable ? -EACCES : 0;
}

long sys_faccessat(int dirfd, uint64_t path, unsigned wanted) {
    return sys_faccessat2(dirfd, path, wanted, 0);
}
long sys_access(uint64_t path, unsigned wanted) { return sys_faccessat2(AT_FDCWD, path, wanted, 0); }

/* ---- changing it ----------------------------------------------------------------------------- */
static long change_mode(struct inode *inode, uint32_t mode) {
    inode->mode = (inode->mode & S_IFMT) | (mode & 07777);
    inode->ctime = clock_now_still();
    return 0;
}

long sys_fchmod(int fd, uint32_t mode) {
    struct file *file = file_get(fd);
    return file ? change_mode(file->inode, mode) : -EBADF;
}

long sys_fchmodat(int dirfd, uint64_t path, uint32_t mode) {
    return path_existing(&place, dirfd, path, 0) ?: change_mode(place.inode, mode);
}

long sys_chmod(uint64_t path, uint32_t mode) { return sys_fchmodat(AT_FDCWD, path, mode); }

static long change_owner(struct inode *inode, uint32_t uid, uint32_t gid) {
    if (uid != CHOWN_KEEP) inode->uid = uid;
    if (gid != CHOWN_KEEP) inode->gid = gid;
    inode->ctime = clock_now_still();
    return 0;
}

long sys_fchown(int fd, uint32_t uid, uint32_t gid) {
    struct file *file = file_get(fd);
    return file ? change_owner(file->inode, uid, gid) : -EBADF;
}

long sys_fchownat(int dirfd, uint64_t path, uint32_t uid, uint32_t gid, int flags) {
    return path_existing(&place, dirfd, path, flags) ?: change_owner(place.inode, uid, gid);
}

long sys_chown(uint64_t path, uint32_t uid, uint32_t gid) {
    return sys_fchownat(AT_FDCWD, path, uid, gid, 0);
}
long sys_lchown(uint64_t path, uint32_t uid, uint32_t gid) {
    return sys_fchownat(AT_FDCWD, path, uid, gid, AT_SYMLINK_NOFOLLOW);
}

long sys_ftruncate(int fd, uint64_t size) {
    struct file *file = file_get(fd);
    if (!file) return -EBADF;
    if (file->ops != &regular_ops || (file->flags & O_ACCMODE) == O_RDONLY) return -EINVAL;
    return inode_resize(file->inode, size);
}

long sys_truncate(uint64_t path, uint64_t size) {
    long error = path_existing(&place, AT_FDCWD, path, 0);
    if (error) return error;
    if (!S_ISREG(place.inode->mode) || place.inode->proc)
        return S_ISDIR(place.inode->mode) ? -EISDIR : -EINVAL;
    return inode_resize(place.inode, size);
}

/* Space is always there until it is not: only the size is kept. */
long sys_fallocate(int fd, int mode, uint64_t offset, uint64_t length) {
    struct file *file = file_get(fd);
    if (!file) return -EBADF;
    if (mode & ~1) return -EOPNOTSUPP; /* FALLOC_FL_KEEP_SIZE */
    if (file->ops != &regular_ops) return -ENODEV;
    if ((int64_t)offset < 0 || (int64_t)length <= 0) return -EINVAL;
    bool grows = !(mode & 1) && offset + length > file->inode->size;
    return grows ? inode_resize(file->inode, offset + length) : 0;
}

#define UTIME_NOW 0x3fffffffl
#define UTIME_OMIT 0x3ffffffel

static long change_times(struct inode *inode, uint64_t times) {
    struct timespec value[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}};
    if (times && copy_in(value, times, sizeof value)) return -EFAULT;
    uint64_t now = clock_now_still(), *field[2] = {&inode->atime, &inode->mtime};
    for (int i = 0; i < 2; i++) {
        if (value[i].tv_nsec == UTIME_OMIT) continue;
        if (value[i].tv_nsec == UTIME_NOW)
            *field[i] = now;
        else
            *field[i] = (uint64_t)value[i].tv_sec * NS_PER_SECOND + (uint64_t)value[i].tv_nsec;
    }
    inode->ctime = now;
    return 0;
}

long sys_utimensat(int dirfd, uint64_t path, uint64_t times, int flags) {
    if (path) return path_existing(&place, dirfd, path, flags) ?: change_times(place.inode, times);
    struct file *file = file_get(dirfd);
    return file ? change_times(file->inode, times) : -EBADF;
}

/* The older forms give microseconds or seconds. */
static long change_old(uint64_t path, uint64_t times, bool micro) {
    long value[4], seconds[2];
    long error = path_existing(&place, AT_FDCWD, path, 0);
    if (error || !times) return error ?: change_times(place.inode, 0);
    if (micro ? copy_in(value, times, sizeof value) : copy_in(seconds, times, sizeof seconds)) return -EFAULT;
    place.inode->atime =
        (uint64_t)(micro ? value[0] : seconds[0]) * NS_PER_SECOND + (micro ? (uint64_t)value[1] * 1000 : 0);
    place.inode->mtime =
        (uint64_t)(micro ? value[2] : seconds[1]) * NS_PER_SECOND + (micro ? (uint64_t)value[3] * 1000 : 0);
    return 0;
}

long sys_utimes(uint64_t path, uint64_t times) { return change_old(path, times, true); }
long sys_utime(uint64_t path, uint64_t times) { return change_old(path, times, false); }

static long put_statfs(uint64_t to) {
    struct statfs value = {.f_type = 0x01021994 /* tmpfs */,
                           .f_bsize = PAGE,
                           .f_frsize = PAGE,
                           .f_namelen = NAME_MAX,
                           .f_blocks = (long)(boot->ram_bytes / PAGE),
                           .f_bfree = (long)pages_left(),
                           .f_bavail = (long)pages_left(),
                           .f_files = 1 << 20,
                           .f_ffree = 1 << 20};
    return copy_out(to, &value, sizeof value);
}

long sys_statfs(uint64_t path, uint64_t to) {
    return path_existing(&place, AT_FDCWD, path, 0) ?: put_statfs(to);
}
long sys_fstatfs(int fd, uint64_t to) { return file_get(fd) ? put_statfs(to) : -EBADF; }

long sys_fsync(int fd) { return file_get(fd) ? 0 : -EBADF; }
long sys_sync(void) { return 0; }
long sys_fadvise64(int fd) { return file_get(fd) ? 0 : -EBADF; }
