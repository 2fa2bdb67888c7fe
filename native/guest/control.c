/* Control requests: the monitor's user reads and lists the running program's files. */
#include "control_tree.h"

static struct place place;
static uint8_t chunk[16384];

struct answer {
    uint32_t id;
    int32_t status;
    uint64_t bytes;
};

static void send(const void *bytes, size_t length) {
    if (length) exchange_send(LS_CH_CONTROL, bytes, (uint32_t)length);
}

static char type_of(uint32_t mode) {
    return S_ISDIR(mode) ? 'd' : S_ISLNK(mode) ? 'l' : S_ISREG(mode) ? 'f' : 'p';
}

static size_t line(const struct inode *inode, const char *name, size_t length, char *to, size_t size) {
    int n = format(to, size, "%c %lu ", type_of(inode->mode), S_ISDIR(inode->mode) ? 0ul : inode->size);
    memcpy(to + n, name, length);
    to[(size_t)n + length] = '\n';
    return (size_t)n + length + 1;
}

/* Twice over the directory: the length comes first. Nothing changes between the two. */
static uint64_t list(struct inode *directory, bool really) {
    static char text[PATH_MAX];
    uint64_t total = 0;
    for (const struct entry *entry = directory_first(directory); entry; entry = entry->next) {
        size_t n = line(entry->inode, entry->name, entry->length, text, sizeof text);
        if (really) send(text, n);
        total += n;
    }
    return total;
}

static void send_file(struct inode *inode) {
    uint64_t size = inode->size;
    for (uint64_t at = 0; at < size;) {
        size_t n = inode_read(inode, at, chunk, min_u64(sizeof chunk, size - at));
        send(chunk, n);
        at += n;
    }
}

static bool follows(uint8_t op) { return op == LS_CONTROL_READ || op == LS_CONTROL_LIST; }

void control_answer(const uint8_t *request, uint32_t length) {
    static char path[PATH_MAX], text[PATH_MAX + 32];
    static struct answer answer;
    answer = (struct answer){0, -EINVAL, 0};
    uint8_t op = length > 8 ? request[4] : 0;
    size_t n = length > 8 ? min_u64(length - 8, sizeof path - 1) : 0;
    if (length >= 4) memcpy(&answer.id, request, 4);
    memcpy(path, request + 8, n);
    path[n] = 0;
    if (n) {
        answer.status = (int32_t)path_find(&place, path[0] == '/' ? root : cwd, path,
                                           follows(op) ? 0 : AT_SYMLINK_NOFOLLOW);
        if (!answer.status && !place.inode) answer.status = -ENOENT;
    }
    struct inode *inode = answer.status ? NULL : place.inode;
    if (inode && op == LS_CONTROL_READ) {
        if (S_ISDIR(inode->mode))
            answer.status = -EISDIR;
        else if (inode->proc)
            inode = proc_open(inode);
        else if (!S_ISREG(inode->mode))
            answer.status = -EINVAL;
        else
            inode_use(inode);
        answer.bytes = answer.status ? 0 : inode->size;
        send(&answer, sizeof answer);
        if (answer.status) return;
        send_file(inode);
        inode_release(inode);
        return;
    }
    if (inode && op == LS_CONTROL_LIST) {
        if (!S_ISDIR(inode->mode))
            answer.status = -ENOTDIR;
        else
            answer.bytes = list(inode, false);
        send(&answer, sizeof answer);
        if (!answer.status) list(inode, true);
        return;
    }
    if (inode && op == LS_CONTROL_TREE) {
        answer.status = (int32_t)tree_measure(inode, &answer.bytes);
        send(&answer, sizeof answer);
        if (!answer.status) tree_send(inode);
        return;
    }
    if (inode && op == LS_CONTROL_STAT)
        answer.bytes = line(inode, path, n, text, sizeof text);
    else if (inode)
        answer.status = -EINVAL;
    send(&answer, sizeof answer);
    send(text, answer.bytes);
}
