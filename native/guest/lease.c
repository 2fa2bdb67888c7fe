/*
 * The address that comes by DHCP: the program starts when it is there. What the lease says of name
 * servers goes into /etc/resolv.conf, unless the image brought its own.
 */
#include "file.h"
#include "net/net.h"

#define PATIENCE (30 * NS_PER_SECOND)

static struct inode *resolv_conf;

static void write_resolv_conf(const struct net_lease *lease) {
    static char text[256];
    size_t length = 0;
    for (unsigned i = 0; lease && i < lease->dns_count; i++) {
        uint32_t ip = lease->dns[i];
        length += (size_t)format(text + length, sizeof text - length, "nameserver %u.%u.%u.%u\n", ip >> 24,
                                 ip >> 16 & 255, ip >> 8 & 255, ip & 255);
    }
    if (lease && lease->domain[0])
        length += (size_t)format(text + length, sizeof text - length, "search %s\n", lease->domain);
    if (!inode_resize(resolv_conf, 0)) inode_write(resolv_conf, 0, text, length);
}

/* Name servers of a network that is left for good are kept: with others, or none, nothing works either. */
void net_lease_changed(void) {
    if (resolv_conf && net_lease()) write_resolv_conf(net_lease());
}

static void make_resolv_conf(void) {
    struct entry *etc = directory_find(root, "etc", 3);
    struct inode *directory = etc ? etc->inode : inode_new(S_IFDIR | 0755);
    if (!directory || !S_ISDIR(directory->mode) || (!etc && directory_add(root, "etc", 3, directory))) return;
    if (directory_find(directory, "resolv.conf", 11)) return;
    struct inode *made = inode_new(S_IFREG | 0644);
    if (!made || directory_add(directory, "resolv.conf", 11, made)) return;
    inode_use(made); /* also when the program removes it */
    resolv_conf = made;
    net_lease_changed();
}

/* NULL, or why the program cannot start. */
const char *lease_wait(void) {
    if (!boot->net_mmio_gpa || !(boot->net_flags & LS_NET_DHCP)) return NULL;
    uint64_t end = clock_now() + PATIENCE;
    net_dhcp_start();
    while (!net_lease()) {
        if (clock_now_still() >= end) return "no DHCP server gave the network card an address within 30 s";
        exchange(LS_EX_WAIT, end, false);
    }
    make_resolv_conf();
    return NULL;
}
