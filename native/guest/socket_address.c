/* struct sockaddr, as programs write and read it: sockaddr_in and sockaddr_un. */
#include "socket_calls.h"
#include "net/wire.h"

static struct place place;

struct internet { /* struct sockaddr_in */
    uint16_t family, portno;
    uint32_t ip;
    uint8_t zero[8];
};

long address_in(struct address *to, uint64_t from, uint64_t size) {
    uint8_t raw[2 + sizeof to->name.bytes + 18] = {0};
    *to = (struct address){0};
    if (size < 2 || size > sizeof raw) return -EINVAL;
    if (copy_in(raw, from, size)) return -EFAULT;
    memcpy(&to->family, raw, 2);
    if (to->family == AF_INET) {
        struct internet in;
        if (size < sizeof in) return -EINVAL;
        memcpy(&in, raw, sizeof in);
        to->endpoint = (struct endpoint){be32(in.ip), be16(in.portno)};
    } else if (to->family == AF_UNIX) {
        size_t length = min_u64(size - 2, sizeof to->name.bytes);
        if (length && raw[2]) { /* a path ends at its first zero byte */
            size_t n = 0;
            while (n < length && raw[2 + n]) n++;
            length = n;
        }
        to->name.length = (uint8_t)length;
        memcpy(to->name.bytes, raw + 2, length);
    }
    return 0;
}

static bool is_path(const struct address *address) { return address->name.length && address->name.bytes[0]; }

static long walk(struct address *address) {
    static char path[sizeof address->name.bytes + 1];
    memset(path, 0, sizeof path);
    memcpy(path, address->name.bytes, address->name.length);
    return path_find(&place, cwd, path, 0);
}

long address_find(struct address *address) {
    if (!is_path(address)) return 0;
    long error = walk(address);
    if (error) return error;
    if (!place.inode) return -ENOENT;
    if (!S_ISSOCK(place.inode->mode)) return -ECONNREFUSED;
    address->name.inode = place.inode;
    return 0;
}

long address_make(struct address *address) {
    if (!is_path(address)) return 0;
    long error = walk(address);
    if (error) return error;
    if (place.inode) return -EADDRINUSE;
    struct inode *inode = inode_new(S_IFSOCK | 0755);
    if (!inode) return -ENOMEM;
    inode_use(inode);
    error = directory_add(place.directory, place.name, place.length, inode);
    if (error) {
        inode_release(inode);
        return error;
    }
    address->name.inode = inode;
    return 0;
}

void address_of(struct socket *s, bool peer, struct address *address) {
    *address = (struct address){.family = (uint16_t)socket_domain(s)};
    if (address->family == AF_UNIX)
        unix_name_of(s, peer, &address->name);
    else if (peer)
        socket_peer(s, &address->endpoint);
    else
        socket_name(s, &address->endpoint);
}

long address_out(const struct address *address, uint64_t to, uint64_t size_at) {
    uint8_t raw[2 + sizeof address->name.bytes + 1] = {0};
    uint32_t size, room;
    if (!to) return 0;
    if (copy_in(&room, size_at, sizeof room)) return -EFAULT;
    if ((int32_t)room < 0) return -EINVAL;
    memcpy(raw, &address->family, 2);
    if (address->family == AF_INET) {
        struct internet in = {AF_INET, be16(address->endpoint.portno), be32(address->endpoint.ip), {0}};
        memcpy(raw, &in, size = sizeof in);
    } else {
        size = 2 + address->name.length + (address->name.inode ? 1 : 0); /* a path counts its zero byte */
        memcpy(raw + 2, address->name.bytes, address->name.length);
    }
    if (copy_out(to, raw, min_u64(size, room))) return -EFAULT;
    return copy_out(size_at, &size, sizeof size);
}
