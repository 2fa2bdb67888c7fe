/* /dev: the few character devices that programs expect, and the tree of /dev and /proc. */
#include "file.h"

static long device_read(struct file *file, void *to, size_t bytes, uint64_t *offset) {
    (void)offset;
    switch (file->inode->rdev) {
    case DEV_NULL: return 0;
    case DEV_RANDOM:
    case DEV_URANDOM: random_bytes(to, bytes); return (long)bytes;
    case DEV_ZERO:
    case DEV_FULL: memset(to, 0, bytes); return (long)bytes;
    default: return -ENXIO;
    }
}

static long device_write(struct file *file, const void *from, size_t bytes, uint64_t *offset) {
    (void)from, (void)offset;
    return file->inode->rdev == DEV_FULL ? -ENOSPC : (long)bytes;
}

static unsigned device_poll(struct file *file) {
    (void)file;
    return POLLIN | POLLOUT;
}

const struct file_ops device_ops = {
    .read = device_read, .write = device_write, .poll = device_poll, .seekable = true};

/* ---- the tree: what the archive already has is kept ---------------------------------------------- */
static struct inode *make(struct inode *directory, const char *name, uint32_t mode, uint32_t rdev,
                          uint32_t proc) {
    struct entry *old = directory_find(directory, name, strlen(name));
    if (old && S_ISDIR(mode) && S_ISDIR(old->inode->mode)) return old->inode;
    if (old) directory_remove(directory, old);
    struct inode *inode = inode_new(mode);
    if (!inode || directory_add(directory, name, strlen(name), inode)) panic("no memory for", (uint64_t)name);
    inode->rdev = rdev;
    inode->proc = proc;
    return inode;
}

static void make_link(struct inode *directory, const char *name, const char *target) {
    struct inode *inode = make(directory, name, S_IFLNK | 0777, 0, PROC_NONE);
    inode->archive = (const uint8_t *)target; /* constants serve as well as archive bytes */
    inode->size = strlen(target);
}

void devices_start(void) {
    struct inode *dev = make(root, "dev", S_IFDIR | 0755, 0, PROC_NONE);
    make(dev, "null", S_IFCHR | 0666, DEV_NULL, PROC_NONE);
    make(dev, "zero", S_IFCHR | 0666, DEV_ZERO, PROC_NONE);
    make(dev, "full", S_IFCHR | 0666, DEV_FULL, PROC_NONE);
    make(dev, "random", S_IFCHR | 0666, DEV_RANDOM, PROC_NONE);
    make(dev, "urandom", S_IFCHR | 0666, DEV_URANDOM, PROC_NONE);
    make(dev, "tty", S_IFCHR | 0666, DEV_TTY, PROC_NONE);
    make(make(dev, "pts", S_IFDIR | 0755, 0, PROC_NONE), "0", S_IFCHR | 0620, DEV_CONSOLE, PROC_NONE);
    make(dev, "shm", S_IFDIR | 01777, 0, PROC_NONE);
    make_link(dev, "fd", "/proc/self/fd");
    make_link(dev, "stdin", "/proc/self/fd/0");
    make_link(dev, "stdout", "/proc/self/fd/1");
    make_link(dev, "stderr", "/proc/self/fd/2");
    make(root, "tmp", S_IFDIR | 01777, 0, PROC_NONE);

    struct inode *proc = make(root, "proc", S_IFDIR | 0555, 0, PROC_NONE);
    make(proc, "cpuinfo", S_IFREG | 0444, 0, PROC_CPUINFO);
    make(proc, "meminfo", S_IFREG | 0444, 0, PROC_MEMINFO);
    make(proc, "uptime", S_IFREG | 0444, 0, PROC_UPTIME);
    make(proc, "stat", S_IFREG | 0444, 0, PROC_STAT);
    make(proc, "loadavg", S_IFREG | 0444, 0, PROC_LOADAVG);
    make(proc, "version", S_IFREG | 0444, 0, PROC_VERSION);
    make(proc, "mounts", S_IFREG | 0444, 0, PROC_MOUNTS);
    make_link(proc, "self", "1");
    struct inode *self = make(proc, "1", S_IFDIR | 0555, 0, PROC_PROCESS);
    make(self, "maps", S_IFREG | 0444, 0, PROC_MAPS);
    make(self, "stat", S_IFREG | 0444, 0, PROC_SELF_STAT);
    make(self, "status", S_IFREG | 0444, 0, PROC_STATUS);
    make(self, "cmdline", S_IFREG | 0444, 0, PROC_CMDLINE);
    make(self, "environ", S_IFREG | 0400, 0, PROC_ENVIRON);
    make(self, "comm", S_IFREG | 0444, 0, PROC_COMM);
    make(self, "statm", S_IFREG | 0444, 0, PROC_STATM);
    make(self, "mounts", S_IFREG | 0444, 0, PROC_MOUNTS);
    make(self, "exe", S_IFLNK | 0777, 0, PROC_EXE);
    make(self, "fd", S_IFDIR | 0500, 0, PROC_FDS);
    sysctl_start();
}
