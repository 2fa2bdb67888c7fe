/* The system calls that change the address space. */
#include "file.h"

static bool bad_range(uint64_t start, uint64_t bytes) {
    return start % PAGE || bytes > LS_USER_TOP || start > LS_USER_TOP - bytes;
}

static long check_file(int fd, uint64_t prot, uint64_t flags, struct inode **inode) {
    struct file *file = file_get(fd);
    if (!file) return -EBADF;
    if (file->inode && file->ops == &device_ops && file->inode->rdev == DEV_ZERO) {
        *inode = NULL; /* /dev/zero is anonymous memory by another name */
        return 0;
    }
    if (file->ops != &regular_ops) return -ENODEV;
    unsigned access = file->flags & O_ACCMODE;
    if (access == O_WRONLY) return -EACCES;
    if ((flags & MAP_SHARED) && (prot & PROT_WRITE) && access != O_RDWR) return -EACCES;
    *inode = file->inode;
    return 0;
}

long sys_mmap(uint64_t start, uint64_t length, uint64_t prot, uint64_t flags, int fd, uint64_t offset) {
    uint64_t bytes = page_up(length);
    struct inode *inode = NULL;
    if (!length || offset % PAGE || !(flags & (MAP_SHARED | MAP_PRIVATE))) return -EINVAL;
    if (!bytes || bytes > LS_USER_TOP) return -ENOMEM;
    if (!(flags & MAP_ANONYMOUS)) {
        long error = check_file(fd, prot, flags, &inode);
        if (error) return error;
    }
    if (!inode && (prot & PROT_WRITE) && !(flags & MAP_NORESERVE) && bytes > boot->ram_bytes) return -ENOMEM;
    if (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) {
        if (bad_range(start, bytes)) return start % PAGE ? -EINVAL : -ENOMEM;
        if (start < LS_MMAP_MIN) return -EPERM;
        unsigned next = vma_index(start);
        if (next < space.count && space.vmas[next].start < start + bytes) {
            if (flags & MAP_FIXED_NOREPLACE) return -EEXIST;
            long error = space_unmap(start, start + bytes);
            if (error) return error;
        }
    } else {
        start = page_down(start);
        unsigned next = vma_index(start);
        bool free = start >= LS_MMAP_MIN && !bad_range(start, bytes) &&
                    (next == space.count || space.vmas[next].start >= start + bytes);
        if (!free && !(start = space_gap(bytes))) return -ENOMEM;
    }
    uint32_t kept = (uint32_t)flags & (MAP_SHARED | MAP_PRIVATE | MAP_ANONYMOUS);
    if (kept & MAP_PRIVATE) kept &= ~(uint32_t)MAP_SHARED; /* MAP_SHARED_VALIDATE is both bits */
    if ((flags & MAP_TYPE) == MAP_SHARED_VALIDATE) kept = MAP_SHARED;
    long error = space_map((struct vma){start, start + bytes, inode, offset, (uint32_t)prot & 7, kept});
    if (error) return error;
    bool written =
        inode && (prot & PROT_WRITE) && (kept & MAP_PRIVATE); /* a library's data: relocated at once */
    if ((flags & MAP_POPULATE) || ((written || (!inode && prot)) && bytes <= EAGER_BYTES))
        space_populate(start, start + bytes); /* what is missing comes by faults */
    return (long)start;
}

long sys_munmap(uint64_t start, uint64_t length) {
    if (!length || bad_range(start, page_up(length))) return -EINVAL;
    return space_unmap(start, start + page_up(length));
}

/* True when areas cover the whole range. */
static bool covered(uint64_t start, uint64_t end) {
    for (unsigned i = vma_index(start); start < end; i++) {
        if (i == space.count || space.vmas[i].start > start) return false;
        start = space.vmas[i].end;
    }
    return true;
}

long sys_mprotect(uint64_t start, uint64_t length, uint64_t prot) {
    uint64_t end = start + page_up(length);
    if (start % PAGE) return -EINVAL;
    if (bad_range(start, page_up(length)) || !covered(start, end)) return -ENOMEM;
    if (!length) return 0;
    long error = space_split(start);
    if (!error) error = space_split(end);
    if (error) return error;
    unsigned first = vma_index(start), i = first;
    for (; i < space.count && space.vmas[i].start < end; i++) space.vmas[i].prot = (uint32_t)prot & 7;
    table_protect(start, end, (unsigned)prot);
    space_merge(first, i);
    return 0;
}

long sys_mremap(uint64_t old, uint64_t old_length, uint64_t length, uint64_t flags, uint64_t to) {
    uint64_t from_bytes = page_up(old_length), bytes = page_up(length);
    if (bad_range(old, from_bytes) || !bytes || !from_bytes || bytes > LS_USER_TOP) return -EINVAL;
    struct vma *area = vma_find(old);
    if (!area || area->end < old + from_bytes) return -EFAULT;
    if ((flags & MREMAP_FIXED) && (!(flags & MREMAP_MAYMOVE) || bad_range(to, bytes))) return -EINVAL;
    if ((flags & MREMAP_FIXED) && to < old + from_bytes && old < to + bytes) return -EINVAL;
    if (!(flags & MREMAP_FIXED)) {
        if (bytes < from_bytes) return space_unmap(old + bytes, old + from_bytes) ?: (long)old;
        if (bytes == from_bytes) return (long)old;
        unsigned next = vma_index(old + from_bytes);
        bool room = area->end == old + from_bytes && old + bytes <= MMAP_TOP &&
                    (next == space.count || space.vmas[next].start >= old + bytes);
        if (room) { /* grow in place */
            struct vma more = *area;
            more.offset += area->end - area->start;
            more.start = area->end, more.end = old + bytes;
            return space_map(more) ?: (long)old;
        }
        if (!(flags & MREMAP_MAYMOVE) || !(to = space_gap(bytes))) return -ENOMEM;
    } else {
        long error = space_unmap(to, to + bytes);
        if (error) return error;
    }
    area = vma_find(old);
    struct vma moved = *area;
    moved.offset += old - area->start;
    moved.start = to, moved.end = to + bytes;
    long error = space_map(moved);
    if (error) return error;
    if (!table_move(old, to, min_u64(from_bytes, bytes))) {
        space_unmap(to, to + bytes);
        return -ENOMEM;
    }
    return space_unmap(old, old + from_bytes) ?: (long)to;
}

long sys_madvise(uint64_t start, uint64_t length, int advice) {
    uint64_t end = start + page_up(length);
    if (bad_range(start, page_up(length))) return -EINVAL;
    if (!covered(start, end)) return -ENOMEM;
    if (advice == MADV_DONTNEED) table_unmap(start, end); /* the next touch finds fresh pages */
    return advice == MADV_HWPOISON ? -EPERM : 0;
}

long sys_mincore(uint64_t start, uint64_t length, uint64_t vector) {
    uint64_t n = page_up(length) / PAGE;
    if (bad_range(start, page_up(length))) return -EINVAL;
    if (!covered(start, start + n * PAGE)) return -ENOMEM;
    if (!user_ok(vector, n, true)) return -EFAULT;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t *entry = table_slot(start + i * PAGE, false);
        ((uint8_t *)vector)[i] = entry && (*entry & PTE_PRESENT);
    }
    return 0;
}

long sys_msync(uint64_t start, uint64_t length) {
    if (bad_range(start, page_up(length))) return -EINVAL;
    return covered(start, start + page_up(length)) ? 0 : -ENOMEM;
}

long sys_mlock(uint64_t start, uint64_t length) {
    uint64_t end = page_up(start + length);
    start = page_down(start);
    return bad_range(start, end - start) || !covered(start, end) ? -ENOMEM : 0;
}
