/* Unpacks the boot archive ("newc" cpio): makes inodes that point into it, copies nothing. */
#include "file.h"

struct header { /* 13 fields of 8 hexadecimal digits after the magic */
    char magic[6];
    char field[13][8];
};
enum { INO, MODE, UID, GID, NLINK, MTIME, FILESIZE, DEVMAJOR, DEVMINOR, RDEVMAJOR, RDEVMINOR, NAMESIZE };

#define HARD_LINKS 1024u /* files with several names, found again by their archive number */
static struct {
    uint32_t number;
    struct inode *inode;
} linked[HARD_LINKS];
static unsigned linked_count;

static uint32_t hex(const char *digits) {
    uint32_t value = 0;
    for (int i = 0; i < 8; i++) {
        char c = digits[i];
        value = value << 4 | (uint32_t)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
    }
    return value;
}

static struct inode *make_directory(struct inode *parent, const char *name, size_t length) {
    struct inode *inode = inode_new(S_IFDIR | 0755);
    if (!inode || directory_add(parent, name, length, inode)) panic("no memory for the archive", 0);
    return inode;
}

static struct inode *hard_link(const struct header *header) {
    uint32_t number = hex(header->field[INO]);
    if (hex(header->field[NLINK]) < 2) return NULL;
    for (unsigned i = 0; i < linked_count; i++)
        if (linked[i].number == number) return linked[i].inode;
    return NULL;
}

static void add(const char *path, const struct header *header, const uint8_t *data) {
    struct inode *directory = root;
    size_t length;
    for (;; path += length) { /* directories that the archive does not name are made */
        while (*path == '/' || (path[0] == '.' && (path[1] == '/' || !path[1]))) path++;
        for (length = 0; path[length] && path[length] != '/'; length++) {
        }
        if (!path[length]) break;
        struct entry *entry = directory_find(directory, path, length);
        directory = entry ? entry->inode : make_directory(directory, path, length);
    }
    uint32_t mode = hex(header->field[MODE]), size = hex(header->field[FILESIZE]);
    struct inode *inode = root;
    if (length) {
        struct entry *old = directory_find(directory, path, length);
        bool link = !S_ISDIR(mode) && hex(header->field[NLINK]) > 1;
        inode = link ? hard_link(header) : NULL;
        if (old && S_ISDIR(mode)) {
            inode = old->inode;
        } else {
            if (old) directory_remove(directory, old);
            bool known = inode;
            if (!known) inode = inode_new(mode);
            if (!inode || directory_add(directory, path, length, inode))
                panic("no memory for the archive", 1);
            if (link && !known && linked_count < HARD_LINKS) {
                linked[linked_count].number = hex(header->field[INO]);
                linked[linked_count++].inode = inode;
            }
        }
    }
    inode->mode = mode;
    inode->uid = hex(header->field[UID]);
    inode->gid = hex(header->field[GID]);
    inode->rdev = device(hex(header->field[RDEVMAJOR]), hex(header->field[RDEVMINOR]));
    inode->mtime = inode->atime = inode->ctime = hex(header->field[MTIME]) * NS_PER_SECOND;
    if ((S_ISREG(mode) || S_ISLNK(mode)) && size) { /* of hard links the last one has the bytes */
        inode->archive = data;
        inode->size = size;
    }
}

void cpio_unpack(void) {
    const uint8_t *at = direct(boot->archive_gpa), *end = at + boot->archive_bytes;
    root = cwd = inode_new(S_IFDIR | 0755);
    root->parent = root;
    root->links = 2;
    inode_use(root);
    inode_use(cwd);
    while (at + sizeof(struct header) <= end) {
        const struct header *header = (const void *)at;
        if (memcmp(header->magic, "07070", 5)) panic("the boot archive is damaged at", (uint64_t)at);
        uint32_t name_size = hex(header->field[NAMESIZE]), size = hex(header->field[FILESIZE]);
        const char *name = (const char *)(header + 1);
        uint64_t head = (sizeof *header + name_size + 3) & ~3ull; /* data is aligned to 4 */
        if (head + size > (uint64_t)(end - at)) panic("the boot archive is cut off at", (uint64_t)at);
        if (!strcmp(name, "TRAILER!!!")) break;
        add(name, header, at + head);
        at += head + ((size + 3) & ~3ull);
    }
}
