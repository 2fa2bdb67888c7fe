/*
 * The console: the program's standard streams. Input comes from one channel, output goes to
 * two (stdout, stderr). Each stream is a terminal (tty.c) or behaves as a pipe, as the boot
 * block's flags say.
 */
#include "file.h"

static uint8_t input[65536] __attribute__((aligned(4096)));
static uint32_t input_at, input_end; /* what a pipe's reader has not taken yet */
static bool ended;                   /* end of input, or the terminal is gone */
static uint8_t output[65536] __attribute__((aligned(4096)));
static struct inode *terminal, *pipe_inode;
static struct wait_queue queue;

static bool stdin_is_tty(void) { return boot->flags & LS_BOOT_STDIN_TTY; }

static bool is_tty(const struct file *file) { return file->inode == terminal; }

void console_start(void) {
    terminal = inode_new(S_IFCHR | 0620);
    terminal->rdev = DEV_CONSOLE;
    terminal->links = 1;
    pipe_inode = inode_new(S_IFIFO | 0600);
    pipe_inode->links = 1;
    inode_use(terminal);
    inode_use(pipe_inode);
    tty.rows = boot->rows;
    tty.columns = boot->columns;
}

/* The standard streams open first, in order; every later opening is of /dev/tty. */
struct file *console_open(uint32_t flags) {
    static int opened;
    static const uint32_t flag[3] = {LS_BOOT_STDIN_TTY, LS_BOOT_STDOUT_TTY, LS_BOOT_STDERR_TTY};
    bool as_tty = opened >= 3 || (boot->flags & flag[opened]);
    if (as_tty && opened < 3) flags = O_RDWR;
    struct file *file = file_new(&console_ops, as_tty ? terminal : pipe_inode, flags | O_LARGEFILE);
    if (opened < 3)
        opened++;
    else
        file->channel = boot->flags & LS_BOOT_STDOUT_TTY ? LS_CH_CONSOLE : LS_CH_STDERR;
    return file;
}

/* ---- input ------------------------------------------------------------------------------- */
/* A terminal takes input at any time, so that Ctrl-C gets in; a pipe when its reader waits. */
uint32_t console_room(bool want_input, uint64_t *gpa) {
    *gpa = gpa_of(input);
    if (ended) return 0;
    if (stdin_is_tty()) return min_u64(tty_room(), sizeof input);
    if (!want_input || input_at < input_end) return 0;
    input_at = input_end = 0;
    return sizeof input;
}

void console_input(uint32_t length, bool end) {
    if (stdin_is_tty())
        tty_input(input, length);
    else if (length)
        input_at = 0, input_end = length;
    ended |= end;
    if (length || end) queue_wake(&queue, POLLIN | POLLHUP);
}

bool console_wanted(void) { return queue_wanted(&queue, POLLIN); }

static bool readable(void) { return ended || (stdin_is_tty() ? tty_readable() : input_at < input_end); }

static long take(void *to, size_t bytes) {
    if (stdin_is_tty()) {
        long n = tty_read(to, bytes);
        return n == -EAGAIN && ended ? 0 : n;
    }
    size_t n = min_u64(bytes, input_end - input_at);
    if (!n) return ended ? 0 : -EAGAIN;
    memcpy(to, input + input_at, n);
    input_at += n;
    return (long)n;
}

static long console_read(struct file *file, void *to, size_t bytes, uint64_t *offset) {
    (void)offset;
    if (!bytes) return 0;
    long n = take(to, bytes);
    if (n != -EAGAIN || !(file->flags & O_NONBLOCK)) return n;
    exchange(LS_EX_TIME, NEVER, true); /* is there anything by now? */
    return take(to, bytes);
}

/* ---- output ------------------------------------------------------------------------------ */
static long console_write(struct file *file, const void *from, size_t bytes, uint64_t *offset) {
    (void)offset;
    for (size_t done = 0; done < bytes;) {
        size_t n = min_u64(bytes - done, sizeof output);
        if (!channel_hung_up(file->channel)) {
            const uint8_t *next = (const uint8_t *)from + done;
            if (is_tty(file)) {
                tty_write(file->channel, next, n);
            } else {
                memcpy(output, next, n); /* the program's pages are not contiguous */
                exchange_send(file->channel, output, (uint32_t)n);
            }
        }
        if (channel_hung_up(file->channel)) {
            signal_raise_here(SIGPIPE, SI_USER);
            return -EPIPE;
        }
        done += n;
    }
    return (long)bytes;
}

static unsigned console_poll(struct file *file) {
    unsigned ready = 0;
    if ((file->flags & O_ACCMODE) != O_WRONLY && readable()) ready |= POLLIN | (ended ? POLLHUP : 0u);
    if ((file->flags & O_ACCMODE) != O_RDONLY) ready |= POLLOUT;
    if ((ready & POLLOUT) && channel_hung_up(file->channel)) ready |= POLLERR;
    return ready;
}

static long console_ioctl(struct file *file, unsigned request, uint64_t argument) {
    if (request == 0x541b /* FIONREAD */) {
        uint32_t n = stdin_is_tty() ? tty_queued() : input_end - input_at;
        return copy_out(argument, &n, sizeof n);
    }
    return is_tty(file) ? tty_ioctl(request, argument) : -ENOTTY;
}

static struct wait_queue *console_queue(struct file *file) {
    (void)file;
    return &queue;
}

const struct file_ops console_ops = {.read = console_read,
                                     .write = console_write,
                                     .poll = console_poll,
                                     .ioctl = console_ioctl,
                                     .queue = console_queue,
                                     .outside = true,
                                     .name = "the console"};
