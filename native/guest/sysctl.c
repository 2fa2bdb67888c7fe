/* /proc/sys and /sys, as far as servers and language runtimes read them: constants. */
#include "file.h"

static const struct {
    const char *path, *text;
} constants[] = {
    {"proc/filesystems", "nodev\tproc\nnodev\ttmpfs\n"},
    {"proc/sys/fs/file-max", "9223372036854775807\n"},
    {"proc/sys/fs/nr_open", "1048576\n"},
    {"proc/sys/fs/pipe-max-size", "65536\n"},
    {"proc/sys/kernel/cap_last_cap", "40\n"},
    {"proc/sys/kernel/hostname", "lockstep\n"},
    {"proc/sys/kernel/ngroups_max", "65536\n"},
    {"proc/sys/kernel/osrelease", "6.1.0\n"},
    {"proc/sys/kernel/ostype", "Linux\n"},
    {"proc/sys/kernel/pid_max", "32768\n"},
    {"proc/sys/kernel/threads-max", "32768\n"},
    {"proc/sys/kernel/version", "#1 Lockstep\n"},
    {"proc/sys/net/core/rmem_max", "212992\n"},
    {"proc/sys/net/core/somaxconn", "4096\n"},
    {"proc/sys/net/core/wmem_max", "212992\n"},
    {"proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"},
    {"proc/sys/net/ipv4/tcp_max_syn_backlog", "4096\n"},
    {"proc/sys/vm/max_map_count", "8192\n"},
    {"proc/sys/vm/overcommit_memory", "0\n"},
    {"proc/sys/vm/swappiness", "60\n"},
    {"sys/devices/system/clocksource/clocksource0/current_clocksource", "lockstep\n"},
    {"sys/devices/system/cpu/online", "0\n"},
    {"sys/devices/system/cpu/possible", "0\n"},
    {"sys/devices/system/cpu/present", "0\n"},
    {"sys/devices/system/node/online", "0\n"},
    {"sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n"},
    {"sys/kernel/mm/transparent_hugepage/hpage_pmd_size", "2097152\n"},
};

static void add(const char *path, const char *text) {
    struct inode *directory = root;
    for (size_t length; *path; path += length + (path[length] == '/')) {
        for (length = 0; path[length] && path[length] != '/'; length++) {
        }
        bool last = !path[length];
        struct entry *entry = directory_find(directory, path, length);
        struct inode *inode = entry ? entry->inode : inode_new(last ? S_IFREG | 0644 : S_IFDIR | 0555);
        if (entry && (last || !S_ISDIR(inode->mode))) return; /* what the archive has stays */
        if (!entry && (!inode || directory_add(directory, path, length, inode)))
            panic("no memory for", (uint64_t)path);
        if (last) {
            inode->archive = (const uint8_t *)text; /* constants serve as well as archive bytes */
            inode->size = strlen(text);
        }
        directory = inode;
    }
}

void sysctl_start(void) {
    for (size_t i = 0; i < count_of(constants); i++) add(constants[i].path, constants[i].text);
}
