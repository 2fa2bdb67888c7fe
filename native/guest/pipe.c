/* Pipes and FIFOs: 64 KiB in a page tree's worth of pages, both ends in the same program. */
#include "file.h"
#include <asm/ioctls.h>

#define PIPE_BYTES 65536u
struct pipe {
    uint64_t frame[PIPE_BYTES / PAGE];
    uint64_t read_at, write_at; /* counters */
    uint32_t readers, writers;
    struct wait_queue queue;
};

static bool reads(const struct file *file) { return (file->flags & O_ACCMODE) != O_WRONLY; }
static bool writes(const struct file *file) { return (file->flags & O_ACCMODE) != O_RDONLY; }

/* Copies up to the end of a page; to or from the ring. */
static size_t piece(struct pipe *pipe, uint64_t at, size_t bytes, void **where) {
    uint64_t *frame = &pipe->frame[at % PIPE_BYTES / PAGE];
    if (!*frame && !(*frame = page_alloc())) return 0;
    *where = (uint8_t *)direct(*frame) + at % PAGE;
    return min_u64(bytes, PAGE - at % PAGE);
}

static long pipe_read(struct file *file, void *to, size_t bytes, uint64_t *offset) {
    struct pipe *pipe = file->inode->pipe;
    (void)offset;
    if (bytes && pipe->read_at == pipe->write_at) return pipe->writers ? -EAGAIN : 0;
    size_t done = 0;
    while (done < bytes && pipe->read_at < pipe->write_at) {
        void *from = NULL;
        size_t n = piece(pipe, pipe->read_at, min_u64(bytes - done, pipe->write_at - pipe->read_at), &from);
        memcpy((uint8_t *)to + done, from, n);
        done += n, pipe->read_at += n;
    }
    if (done) queue_wake(&pipe->queue, POLLOUT);
    return (long)done;
}

static long pipe_write(struct file *file, const void *from, size_t bytes, uint64_t *offset) {
    struct pipe *pipe = file->inode->pipe;
    size_t done = 0;
    (void)offset;
    while (done < bytes) {
        if (!pipe->readers) {
            signal_raise_here(SIGPIPE, SI_USER);
            return -EPIPE;
        }
        size_t room = PIPE_BYTES - (pipe->write_at - pipe->read_at);
        bool atomic = bytes <= PAGE && room < bytes; /* PIPE_BUF: all or nothing */
        if (!room || atomic) break;
        void *to;
        size_t n = piece(pipe, pipe->write_at, min_u64(bytes - done, room), &to);
        if (!n) return done ? (long)done : -ENOMEM;
        memcpy(to, (const uint8_t *)from + done, n);
        done += n, pipe->write_at += n;
    }
    if (done) queue_wake(&pipe->queue, POLLIN);
    if (bytes && !done) return -EAGAIN;
    return (long)done;
}

static unsigned pipe_poll(struct file *file) {
    struct pipe *pipe = file->inode->pipe;
    unsigned ready = 0;
    if (reads(file) && pipe->read_at < pipe->write_at) ready |= POLLIN;
    if (reads(file) && !pipe->writers) ready |= POLLHUP;
    if (writes(file) && PIPE_BYTES - (pipe->write_at - pipe->read_at) >= PAGE) ready |= POLLOUT;
    if (writes(file) && !pipe->readers) ready |= POLLERR;
    return ready;
}

static long pipe_ioctl(struct file *file, unsigned request, uint64_t argument) {
    uint32_t n = (uint32_t)(file->inode->pipe->write_at - file->inode->pipe->read_at);
    return request == FIONREAD ? copy_out(argument, &n, sizeof n) : -ENOTTY;
}

static void pipe_close(struct file *file) {
    struct pipe *pipe = file->inode->pipe;
    pipe->readers -= reads(file);
    pipe->writers -= writes(file);
    queue_wake(&pipe->queue, POLLIN | POLLOUT | POLLHUP | POLLERR);
    if (pipe->readers || pipe->writers) return;
    for (size_t i = 0; i < count_of(pipe->frame); i++)
        if (pipe->frame[i]) page_free(pipe->frame[i]);
    object_free(pipe, sizeof *pipe);
    file->inode->pipe = NULL;
}

static struct wait_queue *pipe_queue(struct file *file) { return &file->inode->pipe->queue; }

const struct file_ops pipe_ops = {.read = pipe_read,
                                  .write = pipe_write,
                                  .poll = pipe_poll,
                                  .ioctl = pipe_ioctl,
                                  .close = pipe_close,
                                  .queue = pipe_queue,
                                  .name = "a pipe"};

/* A FIFO's opening never waits for the other end: no second process could open it. */
struct file *pipe_open(struct inode *inode, uint32_t flags) {
    struct file *file;
    if (!inode->pipe && !(inode->pipe = object_alloc(sizeof *inode->pipe))) return NULL;
    if (!(file = file_new(&pipe_ops, inode, flags))) return NULL;
    inode->pipe->readers += reads(file);
    inode->pipe->writers += writes(file);
    return file;
}

long sys_pipe2(uint64_t to, uint32_t flags) {
    int fd[2];
    if (flags & ~(uint32_t)(O_CLOEXEC | O_NONBLOCK | O_DIRECT)) return -EINVAL;
    if (!user_ok(to, sizeof fd, true)) return -EFAULT;
    struct inode *inode = inode_new(S_IFIFO | 0600);
    struct file *in = inode ? pipe_open(inode, O_RDONLY | (flags & O_NONBLOCK)) : NULL;
    struct file *out = in ? pipe_open(inode, O_WRONLY | (flags & O_NONBLOCK)) : NULL;
    if (!out) {
        if (in) file_drop(in);
        return -ENFILE;
    }
    fd[0] = (int)descriptor_new(in, 0, flags & O_CLOEXEC);
    if (fd[0] < 0) {
        file_drop(out);
        return fd[0];
    }
    fd[1] = (int)descriptor_new(out, 0, flags & O_CLOEXEC);
    if (fd[1] < 0) {
        sys_close(fd[0]);
        return fd[1];
    }
    return copy_out(to, fd, sizeof fd);
}

long sys_pipe(uint64_t to) { return sys_pipe2(to, 0); }
