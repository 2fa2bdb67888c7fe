/*
 * Inodes and their bytes. A file from the boot archive is read where it lies; the first write
 * to it copies it into pages of its own.
 */
#include "file.h"

static uint64_t last_number = 1;

struct inode *inode_new(uint32_t mode) {
    struct inode *inode = object_alloc(sizeof *inode);
    if (!inode) return NULL;
    inode->number = ++last_number;
    inode->mode = mode;
    inode->atime = inode->mtime = inode->ctime = clock_now_still();
    return inode;
}

void inode_use(struct inode *inode) { inode->uses++; }

void inode_release(struct inode *inode) {
    if (--inode->uses || inode->links) return;
    if (S_ISREG(inode->mode) || S_ISLNK(inode->mode)) page_tree_cut(&inode->pages, 0, NEVER, false);
    object_free(inode, sizeof *inode);
}

void inode_map(struct inode *inode, bool shared) {
    inode->uses++;
    inode->maps += shared;
}

void inode_unmap(struct inode *inode, bool shared) {
    inode->maps -= shared;
    inode_release(inode);
}

static void read_pages(struct inode *inode, uint64_t offset, uint8_t *to, size_t bytes) {
    while (bytes) {
        size_t n = min_u64(bytes, PAGE - offset % PAGE);
        uint64_t *slot = page_tree_slot(&inode->pages, offset / PAGE, false);
        if (slot && *slot)
            memcpy(to, (uint8_t *)direct(*slot) + offset % PAGE, n);
        else
            memset(to, 0, n); /* a hole */
        to += n, offset += n, bytes -= n;
    }
}

size_t inode_read(struct inode *inode, uint64_t offset, void *to, size_t bytes) {
    if (offset >= inode->size) return 0;
    bytes = min_u64(bytes, inode->size - offset);
    if (inode->archive)
        memcpy(to, inode->archive + offset, bytes);
    else
        read_pages(inode, offset, to, bytes);
    return bytes;
}

static uint64_t frame_at(struct inode *inode, uint64_t index) {
    uint64_t *slot = page_tree_slot(&inode->pages, index, true);
    if (slot && !*slot) *slot = page_alloc();
    return slot ? *slot : 0;
}

static long write_pages(struct inode *inode, uint64_t offset, const uint8_t *from, size_t bytes) {
    size_t done = 0;
    while (done < bytes) {
        size_t n = min_u64(bytes - done, PAGE - offset % PAGE);
        uint64_t frame = frame_at(inode, offset / PAGE);
        if (!frame) return done ? (long)done : -ENOSPC;
        memcpy((uint8_t *)direct(frame) + offset % PAGE, from + done, n);
        done += n, offset += n;
    }
    return (long)done;
}

/* From the archive's bytes to pages that may be written. */
static long own(struct inode *inode) {
    const uint8_t *archive = inode->archive;
    if (!archive) return 0;
    inode->archive = NULL;
    if (write_pages(inode, 0, archive, inode->size) == (long)inode->size) return 0;
    page_tree_cut(&inode->pages, 0, NEVER, false);
    inode->archive = archive;
    return -ENOSPC;
}

long inode_write(struct inode *inode, uint64_t offset, const void *from, size_t bytes) {
    if (!bytes) return 0;
    if (offset + bytes < offset || offset + bytes > INT64_MAX) return -EFBIG;
    long error = own(inode);
    if (error) return error;
    long n = write_pages(inode, offset, from, bytes);
    if (n > 0) {
        inode->size = max_u64(inode->size, offset + (uint64_t)n);
        inode->mtime = inode->ctime = clock_now_still();
    }
    return n;
}

long inode_resize(struct inode *inode, uint64_t size) {
    if (size > INT64_MAX) return -EINVAL;
    if (size == 0 && inode->archive) inode->archive = NULL, inode->size = 0;
    long error = own(inode);
    if (error) return error;
    if (size < inode->size) {
        /* While areas map them, frames are emptied instead of freed. */
        page_tree_cut(&inode->pages, page_up(size) / PAGE, NEVER, inode->maps > 0);
        uint64_t *slot = size % PAGE ? page_tree_slot(&inode->pages, size / PAGE, false) : NULL;
        if (slot && *slot) memset((uint8_t *)direct(*slot) + size % PAGE, 0, PAGE - size % PAGE);
    }
    inode->size = size;
    inode->mtime = inode->ctime = clock_now_still();
    return 0;
}

uint64_t inode_frame(struct inode *inode, uint64_t offset) {
    return own(inode) ? 0 : frame_at(inode, offset / PAGE);
}

uint64_t inode_archive_frame(struct inode *inode, uint64_t offset) {
    if (!inode->archive || (uint64_t)inode->archive % PAGE || offset + PAGE > inode->size) return 0;
    return gpa_of(inode->archive) + page_down(offset);
}

uint64_t inode_pages(const struct inode *inode) {
    return S_ISREG(inode->mode) || S_ISLNK(inode->mode) ? page_up(inode->size) / PAGE : 0;
}
