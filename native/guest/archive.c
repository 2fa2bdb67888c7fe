/*
 * The initial file system (struct ls_archive). A directory's entries become inodes when somebody first
 * looks into it, and contents stay where they lie: a start touches what the program asks for and no more.
 */
#include "file.h"

static const struct ls_archive *archive;
static const struct ls_archive_entry *entries;
static const char *names;
static const uint8_t *contents;

static void require(bool right, uint64_t number) {
    if (!right) panic("the boot archive is damaged at entry", number);
}

static bool in_memory(uint64_t gpa, uint64_t bytes) {
    return gpa <= boot->ram_bytes && bytes <= boot->ram_bytes - gpa;
}

static struct inode *inode_of(const struct ls_archive_entry *entry) {
    uint64_t number = (uint64_t)(entry - entries);
    struct inode *inode = inode_new(entry->mode);
    if (!inode) panic("no memory for the archive's entry", number);
    inode->atime = inode->mtime = inode->ctime = archive->mtime_seconds * NS_PER_SECOND;
    if (S_ISDIR(entry->mode)) {
        /* Behind itself, so that no directory can be below itself. */
        require(entry->first > number && entry->first <= archive->count &&
                    entry->bytes <= archive->count - entry->first && entry->directories <= entry->bytes,
                number);
        inode->links = 2 + entry->directories;
        inode->unread = entry;
        return inode;
    }
    require((S_ISREG(entry->mode) || S_ISLNK(entry->mode)) && entry->at <= archive->contents_bytes &&
                entry->bytes <= archive->contents_bytes - entry->at,
            number);
    inode->links = 1;
    if (entry->bytes) {
        inode->archive = contents + entry->at;
        inode->size = entry->bytes;
    }
    return inode;
}

static bool is_name(const char *name, size_t length) {
    if (!length || length > NAME_MAX) return false;
    for (size_t i = 0; i < length; i++)
        if (!name[i] || name[i] == '/') return false;
    return name[0] != '.' || (length > 1 && (name[1] != '.' || length > 2));
}

void archive_read(struct inode *directory) {
    const struct ls_archive_entry *of = directory->unread;
    directory->unread = NULL;
    for (const struct ls_archive_entry *entry = entries + of->first; entry < entries + of->first + of->bytes;
         entry++) {
        uint64_t number = (uint64_t)(entry - entries);
        const char *name = names + entry->name;
        require(entry->name <= archive->name_bytes &&
                    entry->name_bytes <= archive->name_bytes - entry->name &&
                    is_name(name, entry->name_bytes),
                number);
        struct inode *inode = inode_of(entry);
        if (S_ISDIR(inode->mode)) inode->parent = directory;
        if (!directory_append(directory, name, entry->name_bytes, inode))
            panic("no memory for the archive's entry", number);
    }
}

void archive_open(void) {
    archive = direct(boot->archive_gpa);
    if (!in_memory(boot->archive_gpa, boot->archive_bytes) || boot->archive_bytes < sizeof *archive ||
        archive->magic != LS_ARCHIVE_MAGIC)
        panic("there is no boot archive at", boot->archive_gpa);
    uint64_t entry_bytes = archive->count * (uint64_t)sizeof *entries;
    if (!archive->count || entry_bytes + archive->name_bytes > boot->archive_bytes - sizeof *archive ||
        !in_memory(archive->contents_gpa, archive->contents_bytes))
        panic("the boot archive is cut off at", boot->archive_gpa + boot->archive_bytes);
    entries = (const void *)(archive + 1);
    names = (const char *)(entries + archive->count);
    contents = direct(archive->contents_gpa);
    require(S_ISDIR(entries->mode), 0);
    root = cwd = inode_of(entries);
    root->parent = root;
    inode_use(root);
    inode_use(cwd);
}
