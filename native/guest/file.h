/*
 * Files: inodes (what exists), open files (how it is used), descriptors (its numbers).
 * The file system is inodes in memory; /dev, /proc and the console are inodes too.
 */
#ifndef LOCKSTEP_GUEST_FILE_H
#define LOCKSTEP_GUEST_FILE_H

#include "thread.h"

#include <linux/fcntl.h>
#include <linux/poll.h>
#include <linux/stat.h>
#include <asm/stat.h>

/* ---- inodes: ramfs.c, directory.c --------------------------------------------------- */
#define device(major, minor) ((major) << 8 | (minor))
#define DEV_NULL device(1u, 3u)
#define DEV_ZERO device(1u, 5u)
#define DEV_FULL device(1u, 7u)
#define DEV_RANDOM device(1u, 8u)
#define DEV_URANDOM device(1u, 9u)
#define DEV_TTY device(5u, 0u)
#define DEV_CONSOLE device(136u, 0u) /* /dev/pts/0 */

enum proc_kind {
    PROC_NONE,
    PROC_MAPS,
    PROC_CPUINFO,
    PROC_MEMINFO,
    PROC_UPTIME,
    PROC_STAT,
    PROC_SELF_STAT,
    PROC_STATUS,
    PROC_CMDLINE,
    PROC_ENVIRON,
    PROC_COMM,
    PROC_STATM,
    PROC_MOUNTS,
    PROC_VERSION,
    PROC_LOADAVG,
    PROC_EXE,
    PROC_FDS,
    PROC_PROCESS
};

struct entry { /* a name in a directory, in order of creation */
    struct entry *next;
    struct inode *inode;
    uint64_t cookie; /* its place, for getdents64 and seeking */
    uint32_t hash;
    uint16_t length, allocated;
    char name[];
};

struct inode {
    uint64_t number, size;
    uint32_t mode, links, uid, gid, rdev, proc;
    uint32_t uses, maps;          /* open files and areas; shared areas */
    uint64_t atime, mtime, ctime; /* ns */
    union {
        struct { /* regular files and symbolic links: the archive's bytes until first written */
            const uint8_t *archive;
            struct page_tree pages;
        };
        struct { /* directories */
            struct entry *first, *last;
            struct inode *parent;
            uint64_t next_cookie;
            const struct ls_archive_entry *unread; /* its names are in the archive; see directory_first */
        };
        struct pipe *pipe;     /* FIFOs while open */
        struct socket *socket; /* open sockets */
    };
};
extern struct inode *root, *cwd;

struct inode *inode_new(uint32_t mode);
void inode_use(struct inode *inode);
void inode_release(struct inode *inode); /* the last release of an unlinked inode frees it */
void inode_map(struct inode *inode, bool shared);
void inode_unmap(struct inode *inode, bool shared);
size_t inode_read(struct inode *inode, uint64_t offset, void *to, size_t bytes); /* short at the end */
long inode_write(struct inode *inode, uint64_t offset, const void *from, size_t bytes);
long inode_resize(struct inode *inode, uint64_t size);
uint64_t inode_frame(struct inode *inode, uint64_t offset);         /* to map shared; 0: no memory */
uint64_t inode_archive_frame(struct inode *inode, uint64_t offset); /* 0: not page-aligned there */
uint64_t inode_pages(const struct inode *inode);

struct entry *directory_first(struct inode *directory);
struct entry *directory_find(struct inode *directory, const char *name, size_t length);
long directory_add(struct inode *directory, const char *name, size_t length, struct inode *inode);
/* An entry and no more: neither links nor times are counted. */
bool directory_append(struct inode *directory, const char *name, size_t length, struct inode *inode);
void directory_remove(struct inode *directory, struct entry *entry);
bool directory_contains(const struct inode *directory, const struct inode *below);
long directory_path(struct inode *directory, char *to, size_t size); /* absolute path's length */

/* ---- paths: path.c ------------------------------------------------------------------ */
struct place { /* where a path leads: the inode is NULL when only the last name is missing */
    struct inode *directory, *inode;
    struct entry *entry;
    struct file *open; /* /proc/self/fd/N: the open file itself */
    const char *name;
    size_t length;
    bool slash; /* the path ended with one: must be a directory */
    char buffer[PATH_MAX];
};
/* Flags: AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH. The path is the program's, path_find's the kernel's. */
long path_resolve(struct place *place, int dirfd, uint64_t path, int flags);
long path_find(struct place *place, struct inode *from, const char *path, int flags);
long path_existing(struct place *place, int dirfd, uint64_t path, int flags); /* -ENOENT when missing */

/* ---- open files: file.c, open.c --------------------------------------------------------- */
struct file;
/*
 * What an open file can do. read and write never wait: they answer -EAGAIN, and the caller (file.c)
 * sleeps in the file's queue and tries again. A file that can become ready has a queue and calls
 * queue_wake on it with the POLL bits that may hold now, at every change; poll, select, epoll and
 * sleeping readers all hang on that one call. Without a queue a file is always ready (and epoll
 * refuses it). Calls that wait in other ways (accept, connect) do as file.c does: hold the file
 * (uses++, file_drop), try, file_sleep, check the program's pointers again, try again.
 */
struct file_ops {
    long (*read)(struct file *file, void *to, size_t bytes, uint64_t *offset);
    long (*write)(struct file *file, const void *from, size_t bytes, uint64_t *offset);
    unsigned (*poll)(struct file *file); /* POLLIN, POLLOUT, POLLHUP, POLLERR that hold now */
    long (*ioctl)(struct file *file, unsigned request, uint64_t argument);
    void (*close)(struct file *file);
    bool seekable;
    struct wait_queue *(*queue)(struct file *file);
    bool outside;     /* what happens outside the machine can make it ready: waiting is no deadlock */
    const char *name; /* what a sleeper waits for: "a pipe" */
};
struct file {
    const struct file_ops *ops;
    struct inode *inode;
    uint64_t offset;
    uint32_t uses, flags;       /* descriptors; O_ */
    uint32_t channel;           /* console: where output goes */
    bool outside;               /* as in the operations; a socket: where there is a card */
    struct epoll_item *watches; /* epoll.c */
    void *data;                 /* of the kind of file */
    char *path;                 /* as opened, for /proc/self/fd; NULL: none */
};
#define FILES_MAX 1024
extern const struct file_ops regular_ops, directory_ops, device_ops, console_ops, pipe_ops;
/* Sleeps until one of the POLL bits may hold: 0, -ETIMEDOUT or -ERESTARTSYS. Then try again. */
long file_sleep(struct file *file, unsigned events, uint64_t deadline);
/* A descriptor for something without a name: eventfd and its kin. flags: O_NONBLOCK, O_CLOEXEC. */
long anonymous_descriptor(const struct file_ops *ops, void *data, uint32_t flags);
void epoll_forget(struct file *file); /* it is about to be closed */

struct file *file_get(int fd); /* NULL: not open */
struct file *file_new(const struct file_ops *ops, struct inode *inode, uint32_t flags);
void file_drop(struct file *file);
long descriptor_new(struct file *file, int lowest, bool close_on_exec); /* takes over one use */
int descriptor_next(int fd); /* the first open descriptor >= fd, or -1 */
bool descriptor_closes_on_exec(int fd);
void descriptor_set_close_on_exec(int fd, bool on);
long sys_close(int fd);
void files_start(void);
void files_exec(void);
void files_exit(void);
long file_open(struct place *place, uint32_t flags, uint32_t mode, struct file **opened);

/* ---- what stands behind them ---------------------------------------------------------------- */
void archive_open(void);                      /* archive.c: makes the root */
void archive_read(struct inode *directory);   /* its entries, which nobody has looked at yet */
void devices_start(void);                     /* device.c: /dev and /proc */
void sysctl_start(void);                      /* sysctl.c: /proc/sys and /sys */
struct inode *proc_open(struct inode *inode); /* proc.c: an inode with the text of now */
long proc_link(struct inode *inode, char *to, size_t size);
struct file *console_open(uint32_t flags); /* console.c */
void console_start(void);
uint32_t console_room(bool want_input, uint64_t *gpa);
void console_input(uint32_t length, bool end);
bool console_wanted(void);                                   /* somebody waits for input */
struct file *pipe_open(struct inode *inode, uint32_t flags); /* pipe.c: FIFOs */

struct tty {                /* tty.c: the line discipline */
    struct terminal_modes { /* as TCGETS has it */
        uint32_t iflag, oflag, cflag, lflag;
        uint8_t line, cc[19];
    } termios;
    uint16_t rows, columns;
    int32_t group;
};
extern struct tty tty;
void tty_input(const uint8_t *bytes, size_t length);
long tty_read(void *to, size_t bytes); /* -EAGAIN: nothing yet */
bool tty_readable(void);
uint32_t tty_room(void);
uint32_t tty_queued(void);
void tty_flush_echo(void);
void tty_write(unsigned channel, const uint8_t *bytes, size_t length);
long tty_ioctl(unsigned request, uint64_t argument);

#endif
