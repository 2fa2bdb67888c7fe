/*
 * Filling in pages. A fault costs 16-26 us on some hosts and a page-table entry 30 ns, so a
 * fault brings its neighbours along: 16 pages, or 512 of anonymous memory while there is plenty.
 */
#include "file.h"

#define AROUND 16u
#define AROUND_BORROWED 128u /* costs no memory, and 30 ns a page */
#define AROUND_PLENTY 512u
#define ERROR_PRESENT 1u
#define ERROR_WRITE 2u
#define ERROR_FETCH 16u

/* One page of an area. A private page of a file is a copy; a shared one, and one that already
 * lies page-aligned in the boot archive and is only read, is the file's own frame. */
static int fill(struct vma *area, uint64_t address, uint64_t *entry, bool write) {
    uint64_t flags = pte_flags(area->prot), frame = 0;
    if (area->inode) {
        uint64_t offset = area->offset + (address - area->start);
        bool shared = area->flags & MAP_SHARED;
        if (offset >= page_up(area->inode->size)) return -ENXIO;
        if (shared)
            frame = inode_frame(area->inode, offset);
        else if (!write && !(area->prot & PROT_WRITE)) /* data segments are written to, most of them */
            frame = inode_archive_frame(area->inode, offset);
        if (frame) {
            *entry = frame | PTE_BORROWED | (shared ? flags : flags & ~PTE_WRITE);
            return 0;
        }
        if (shared || !(frame = page_alloc())) return -ENOMEM;
        inode_read(area->inode, offset, direct(frame), PAGE);
    } else if (!(frame = page_alloc())) {
        return -ENOMEM;
    }
    *entry = frame | flags;
    return 0;
}

/* A write to a borrowed page: a shared mapping may write it, a private one gets a copy. */
static int unborrow(struct vma *area, uint64_t address, uint64_t *entry) {
    if (area->flags & MAP_SHARED) {
        *entry |= PTE_WRITE;
    } else {
        uint64_t copy = page_alloc();
        if (!copy) return -ENOMEM;
        memcpy(direct(copy), direct(*entry & PTE_FRAME), PAGE);
        *entry = copy | pte_flags(area->prot);
    }
    flush_page(address);
    return 0;
}

static unsigned around(const struct vma *area) {
    if (area->inode && !(area->prot & PROT_WRITE) && inode_archive_frame(area->inode, 0))
        return AROUND_BORROWED;
    bool plenty = !area->inode && pages_left() > boot->ram_bytes / PAGE / 4;
    return plenty && area->end - area->start > (1u << 20) ? AROUND_PLENTY : AROUND;
}

static int bring(struct vma *area, uint64_t address, bool write) {
    uint64_t *entry = table_slot(address, true);
    if (!entry) return -ENOMEM;
    if (*entry) {
        if (write && (*entry & PTE_BORROWED)) return unborrow(area, address, entry);
        flush_page(address); /* the entry is right, so the CPU remembered an older one */
        return 0;
    }
    int error = fill(area, address, entry, write);
    if (error) return error;
    uint64_t window = around(area) * PAGE, start = address & ~(window - 1);
    uint64_t end = min_u64(start + window, area->end);
    for (start = max_u64(start, area->start); start < end; start += PAGE) {
        entry = table_slot(start, true);
        if (!entry || (!*entry && fill(area, start, entry, false))) break;
    }
    return 0;
}

int space_fault(uint64_t address, uint64_t error, bool from_kernel, int *code) {
    struct vma *area = vma_find(address);
    *code = SEGV_MAPERR;
    if (!area) return SIGSEGV;
    bool write = error & ERROR_WRITE;
    unsigned wanted = write                 ? PROT_WRITE
                      : error & ERROR_FETCH ? PROT_EXEC
                                            : PROT_READ | PROT_WRITE | PROT_EXEC;
    *code = SEGV_ACCERR;
    if (!(area->prot & wanted)) return SIGSEGV;
    int failed = bring(area, page_down(address), write);
    if (!failed) return 0;
    if (failed == -ENXIO && from_kernel) { /* past a mapped file's end: the kernel sees zeros */
        uint64_t frame = page_alloc();
        if (frame) {
            *table_slot(address, true) = frame | pte_flags(area->prot);
            return 0;
        }
    }
    *code = failed == -ENXIO ? BUS_ADRERR : SI_KERNEL;
    return failed == -ENXIO ? SIGBUS : SIGKILL; /* out of memory ends the program, as on Linux */
}

/* Gives every page of the range its frame now. */
long space_populate(uint64_t start, uint64_t end) {
    for (uint64_t at = page_down(start); at < end; at += PAGE) {
        struct vma *area = vma_find(at);
        uint64_t *entry = area ? table_slot(at, true) : NULL;
        if (!entry) return -ENOMEM;
        if (!*entry && fill(area, at, entry, false)) return -ENOMEM;
    }
    return 0;
}
