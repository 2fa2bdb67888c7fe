/* Descriptors and open files, and the calls that move bytes through them: read, write, seek. */
#include "file.h"
#include <linux/uio.h>

static struct file *table[FILES_MAX];
static uint8_t closes_on_exec[FILES_MAX];

struct file *file_get(int fd) {
    return fd >= 0 && fd < FILES_MAX ? table[fd] : NULL;
}

struct file *file_new(const struct file_ops *ops, struct inode *inode, uint32_t flags) {
    struct file *file = object_alloc(sizeof *file);
    if (!file) return NULL;
    file->ops = ops;
    file->inode = inode;
    file->flags = flags;
    file->uses = 1;
    file->outside = ops->outside;
    inode_use(inode);
    return file;
}

void file_drop(struct file *file) {
    if (--file->uses) return;
    epoll_forget(file);
    if (file->ops->close) file->ops->close(file);
    inode_release(file->inode);
    if (file->path) object_free(file->path, strlen(file->path) + 1);
    object_free(file, sizeof *file);
}

long descriptor_new(struct file *file, int lowest, bool close_on_exec) {
    if (lowest < 0 || lowest >= FILES_MAX) {
        file_drop(file);
        return -EINVAL;
    }
    int fd = lowest;
    while (fd < FILES_MAX && table[fd]) fd++;
    if (fd == FILES_MAX) {
        file_drop(file);
        return -EMFILE;
    }
    table[fd] = file;
    closes_on_exec[fd] = close_on_exec;
    return fd;
}

int descriptor_next(int fd) {
    for (; fd < FILES_MAX; fd++)
        if (table[fd]) return fd;
    return -1;
}

bool descriptor_closes_on_exec(int fd) { return closes_on_exec[fd]; }
void descriptor_set_close_on_exec(int fd, bool on) { closes_on_exec[fd] = on; }

void files_start(void) {
    for (int fd = 0; fd < 3; fd++) {
        struct file *file = console_open(fd ? O_WRONLY : O_RDONLY);
        file->channel = fd == 2 ? LS_CH_STDERR : LS_CH_CONSOLE;
        descriptor_new(file, fd, false);
    }
}

void files_exec(void) {
    for (int fd = 0; fd < FILES_MAX; fd++)
        if (table[fd] && closes_on_exec[fd]) sys_close(fd);
}

void files_exit(void) {
    for (int fd = 0; fd < FILES_MAX; fd++) sys_close(fd);
}

long sys_close(int fd) {
    struct file *file = file_get(fd);
    if (!file) return -EBADF;
    table[fd] = NULL;
    file_drop(file);
    return 0;
}

long sys_close_range(unsigned first, unsigned last, unsigned flags) {
    if (first > last) return -EINVAL;
    for (unsigned fd = first; fd <= last && fd < FILES_MAX; fd++) {
        if (flags & 4 /* CLOSE_RANGE_CLOEXEC */)
            closes_on_exec[fd] = true;
        else if (table[fd])
            sys_close((int)fd);
    }
    return 0;
}

static long duplicate(int fd, int lowest, bool close_on_exec) {
    struct file *file = file_get(fd);
    if (!file) return -EBADF;
    file->uses++;
    return descriptor_new(file, lowest, close_on_exec);
}

long sys_dup(int fd) { return duplicate(fd, 0, false); }

long sys_dup3(int fd, int to, int flags) {
    struct file *file = file_get(fd);
    if (!file || to < 0 || to >= FILES_MAX) return -EBADF;
    if (fd == to) return -EINVAL;
    if (table[to]) sys_close(to);
    file->uses++;
    return descriptor_new(file, to, flags & O_CLOEXEC);
}

long sys_dup2(int fd, int to) {
    if (fd == to) return file_get(fd) ? to : -EBADF;
    return sys_dup3(fd, to, 0);
}

#define SETTABLE (O_APPEND | O_NONBLOCK | O_NOATIME | O_DIRECT | FASYNC)

long sys_fcntl(int fd, int command, uint64_t argument) {
    struct file *file = file_get(fd);
    if (!file) return -EBADF;
    switch (command) {
    case F_DUPFD: return duplicate(fd, (int)argument, false);
    case F_DUPFD_CLOEXEC: return duplicate(fd, (int)argument, true);
    case F_GETFD: return closes_on_exec[fd] ? FD_CLOEXEC : 0;
    case F_SETFD: closes_on_exec[fd] = argument & FD_CLOEXEC; return 0;
    case F_GETFL: return (long)file->flags;
    case F_SETFL:
        file->flags = (file->flags & ~(uint32_t)SETTABLE) | ((uint32_t)argument & SETTABLE);
        return 0;
    case F_GETLK:
    case F_OFD_GETLK: { /* nobody else is here to hold a lock */
        short unlocked = F_UNLCK;
        return copy_out(argument, &unlocked, sizeof unlocked);
    }
    case F_SETLK:
    case F_SETLKW:
    case F_OFD_SETLK:
    case F_OFD_SETLKW: return 0;
    case F_SETOWN:
    case F_SETSIG: return 0;
    case F_GETOWN: return 1;
    case F_GETPIPE_SZ:
    case F_SETPIPE_SZ: return 65536;
    default: return -EINVAL;
    }
}

long sys_flock(int fd) { return file_get(fd) ? 0 : -EBADF; }

/* ---- moving bytes ------------------------------------------------------------------------ */
static struct file *readable(int fd) {
    struct file *file = file_get(fd);
    return file && (file->flags & O_ACCMODE) != O_WRONLY && !(file->flags & O_PATH) ? file : NULL;
}

static struct file *writable(int fd) {
    struct file *file = file_get(fd);
    return file && (file->flags & O_ACCMODE) != O_RDONLY && !(file->flags & O_PATH) ? file : NULL;
}

/* One piece of the program's memory into or out of a file, at the file's own offset or another. */
static long try_transfer(struct file *file, uint64_t address, uint64_t bytes, bool out, uint64_t *offset) {
    uint64_t span = user_span(address, bytes, !out);
    if (bytes && !span) return -EFAULT;
    if (out) return file->ops->write(file, (const void *)address, span, offset);
    return file->ops->read(file, (void *)address, span, offset);
}

/* Waits where the file would: a read for the first bytes, a write until all are taken. */
static long transfer(struct file *file, uint64_t address, uint64_t bytes, bool out, uint64_t *offset) {
    long total = 0, n, error = 0;
    if (bytes > INT32_MAX) bytes = INT32_MAX & ~(PAGE - 1);
    file->uses++; /* another thread may close it meanwhile */
    for (;;) {
        n = try_transfer(file, address + (uint64_t)total, bytes - (uint64_t)total, out, offset);
        if (n > 0) total += n;
        if (n >= 0 && (!out || !n || (uint64_t)total == bytes || (file->flags & O_NONBLOCK))) break;
        if (n > 0) continue;
        if (n != -EAGAIN || (file->flags & O_NONBLOCK)) break;
        if ((n = error)) break;
        error = file_sleep(file, out ? POLLOUT : POLLIN, NEVER);
    }
    file_drop(file);
    return total ? total : n;
}

long sys_read(int fd, uint64_t address, uint64_t bytes) {
    struct file *file = readable(fd);
    return file ? transfer(file, address, bytes, false, &file->offset) : -EBADF;
}

long sys_write(int fd, uint64_t address, uint64_t bytes) {
    struct file *file = writable(fd);
    return file ? transfer(file, address, bytes, true, &file->offset) : -EBADF;
}

static long at_offset(struct file *file, uint64_t address, uint64_t bytes, int64_t offset, bool out) {
    uint64_t at = (uint64_t)offset;
    if (!file) return -EBADF;
    if (!file->ops->seekable) return -ESPIPE;
    return offset < 0 ? -EINVAL : transfer(file, address, bytes, out, &at);
}

long sys_pread64(int fd, uint64_t address, uint64_t bytes, int64_t offset) {
    return at_offset(readable(fd), address, bytes, offset, false);
}

long sys_pwrite64(int fd, uint64_t address, uint64_t bytes, int64_t offset) {
    return at_offset(writable(fd), address, bytes, offset, true);
}

/* The console gets the pieces of one writev as one output: an exchange is expensive. */
static long gather(struct file *file, const struct iovec *piece, uint64_t count, uint64_t *offset) {
    static uint8_t buffer[16384];
    size_t length = 0;
    for (uint64_t i = 0; i < count; i++) {
        if (piece[i].iov_len > sizeof buffer - length) return -E2BIG;
        if (copy_in(buffer + length, (uint64_t)piece[i].iov_base, piece[i].iov_len)) return -EFAULT;
        length += piece[i].iov_len;
    }
    return file->ops->write(file, buffer, length, offset);
}

static long vector_pieces(struct file *file, uint64_t address, uint64_t count, bool out, uint64_t *offset) {
    long total = 0;
    struct iovec piece;
    for (uint64_t i = 0; i < count; i++) {
        if (copy_in(&piece, address + i * sizeof piece, sizeof piece)) return total ? total : -EFAULT;
        if (!piece.iov_len) continue;
        /* Once something was read, nothing is waited for. */
        long n = out || !total ? transfer(file, (uint64_t)piece.iov_base, piece.iov_len, out, offset)
                               : try_transfer(file, (uint64_t)piece.iov_base, piece.iov_len, out, offset);
        if (n < 0) return total ? total : n;
        total += n;
        if ((uint64_t)n < piece.iov_len) break;
    }
    return total;
}

static long vector(struct file *file, uint64_t address, uint64_t count, bool out, uint64_t *offset) {
    if (!file) return -EBADF;
    if (count > UIO_MAXIOV) return -EINVAL;
    if (!user_ok(address, count * sizeof(struct iovec), false)) return -EFAULT;
    if (out && file->ops == &console_ops) {
        long n = gather(file, (const void *)address, count, offset);
        if (n != -E2BIG) return n;
    }
    file->uses++;
    long total = vector_pieces(file, address, count, out, offset);
    file_drop(file);
    return total;
}

long sys_readv(int fd, uint64_t address, uint64_t count) {
    struct file *file = readable(fd);
    return vector(file, address, count, false, file ? &file->offset : NULL);
}

long sys_writev(int fd, uint64_t address, uint64_t count) {
    struct file *file = writable(fd);
    return vector(file, address, count, true, file ? &file->offset : NULL);
}

long sys_preadv(int fd, uint64_t address, uint64_t count, uint64_t offset) {
    struct file *file = readable(fd);
    if (file && !file->ops->seekable) return -ESPIPE;
    return vector(file, address, count, false, &offset);
}

long sys_pwritev(int fd, uint64_t address, uint64_t count, uint64_t offset) {
    struct file *file = writable(fd);
    if (file && !file->ops->seekable) return -ESPIPE;
    return vector(file, address, count, true, &offset);
}

long sys_lseek(int fd, int64_t offset, int whence) {
    struct file *file = file_get(fd);
    if (!file) return -EBADF;
    if (!file->ops->seekable) return -ESPIPE;
    uint64_t size = S_ISREG(file->inode->mode) ? file->inode->size : 0;
    if (whence == 1)
        offset += (int64_t)file->offset;
    else if (whence == 2)
        offset += (int64_t)size;
    else if ((whence == 3 || whence == 4) && (uint64_t)offset >= size)
        return -ENXIO;
    else if (whence == 4)
        offset = (int64_t)size; /* no holes: data up to the end */
    else if (whence != 0 && whence != 3)
        return -EINVAL;
    if (offset < 0) return -EINVAL;
    file->offset = (uint64_t)offset;
    return offset;
}

/* sendfile and copy_file_range: through a buffer, as far as the source gives. */
static long copy_between(struct file *in, uint64_t *in_at, struct file *out, uint64_t *out_at,
                         uint64_t bytes) {
    static uint8_t buffer[16384]; /* holds nothing across a sleep */
    long total = 0, m = 0, error = 0;
    in->uses++, out->uses++;
    while (bytes) {
        long n = in->ops->read(in, buffer, min_u64(bytes, sizeof buffer), in_at);
        if ((m = n) <= 0) break;
        m = out->ops->write(out, buffer, (size_t)n, out_at);
        if (m < n) *in_at -= (uint64_t)(n - (m > 0 ? m : 0)); /* give back what was not taken */
        if (m > 0) {
            total += m, bytes -= (uint64_t)m;
        } else {
            if (m != -EAGAIN || (out->flags & O_NONBLOCK)) break;
            if ((m = error)) break;
            error = file_sleep(out, POLLOUT, NEVER);
        }
    }
    file_drop(in);
    file_drop(out);
    return total ? total : m;
}

long sys_sendfile(int to, int from, uint64_t offset, uint64_t bytes) {
    struct file *in = readable(from), *out = writable(to);
    uint64_t at;
    if (!in || !out) return -EBADF;
    if (!in->ops->seekable) return -EINVAL;
    if (!offset) return copy_between(in, &in->offset, out, &out->offset, bytes);
    if (copy_in(&at, offset, sizeof at) || !user_ok(offset, sizeof at, true)) return -EFAULT;
    long n = copy_between(in, &at, out, &out->offset, bytes);
    return copy_out(offset, &at, sizeof at) ?: n;
}

long sys_copy_file_range(int from, uint64_t from_at, int to, uint64_t to_at, uint64_t bytes) {
    struct file *in = readable(from), *out = writable(to);
    uint64_t in_at, out_at;
    if (!in || !out) return -EBADF;
    if (in->ops != &regular_ops || out->ops != &regular_ops) return -EINVAL;
    if (from_at && copy_in(&in_at, from_at, sizeof in_at)) return -EFAULT;
    if (to_at && copy_in(&out_at, to_at, sizeof out_at)) return -EFAULT;
    long n = copy_between(in, from_at ? &in_at : &in->offset, out, to_at ? &out_at : &out->offset, bytes);
    if (from_at && copy_out(from_at, &in_at, sizeof in_at)) return -EFAULT;
    if (to_at && copy_out(to_at, &out_at, sizeof out_at)) return -EFAULT;
    return n;
}
