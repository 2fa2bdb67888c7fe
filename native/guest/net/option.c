/* getsockopt and setsockopt: what servers set. Accepted without effect: what concerns hardware or routing. */
#include "stack.h"
#include <linux/errno.h>
#include <asm/socket.h>
#include <linux/in.h>
#include <linux/tcp.h>

#define BUFFER_LEAST 4608u
#define BUFFER_MOST (8u << 20)

struct place { /* where an option lives */
    void *at;
    size_t bytes;
    long scale;
};

static struct place socket_place(struct socket_options *o, int name) {
#define AT(field) ((struct place){&o->field, sizeof o->field, 1})
    switch (name) {
    case SO_REUSEADDR: return AT(reuse_address);
    case SO_REUSEPORT: return AT(reuse_port);
    case SO_KEEPALIVE: return AT(keep_alive);
    case SO_BROADCAST: return AT(broadcast);
    case SO_DONTROUTE: return AT(dont_route);
    case SO_OOBINLINE: return AT(out_of_band_inline);
    case SO_TIMESTAMP_OLD: return AT(timestamps);
    case SO_PRIORITY: return AT(priority);
    case SO_RCVLOWAT: return AT(receive_low);
    default: return (struct place){0};
    }
}

static struct place tcp_place(struct socket_options *o, int name) {
    switch (name) {
    case TCP_NODELAY: return AT(no_delay);
    case TCP_CORK: return AT(cork);
    case TCP_KEEPIDLE: return AT(keep_idle_s);
    case TCP_KEEPINTVL: return AT(keep_interval_s);
    case TCP_KEEPCNT: return AT(keep_count);
    case TCP_USER_TIMEOUT: return AT(user_timeout_ms);
    case TCP_MAXSEG: return AT(max_segment);
    case TCP_DEFER_ACCEPT: return AT(defer_accept_s);
    case TCP_LINGER2: return AT(fin_wait_s);
    case TCP_QUICKACK: return AT(quick_ack);
    default: return (struct place){0};
    }
}

static struct place ip_place(struct socket_options *o, int name) {
    switch (name) {
    case IP_TOS: return AT(type_of_service);
    case IP_TTL: return AT(ttl);
    default: return (struct place){0};
    }
#undef AT
}

static struct place find(struct socket *s, int level, int name) {
    if (level == SOL_SOCKET) return socket_place(&s->options, name);
    if (s->domain != 2) return (struct place){0};
    if (level == IPPROTO_TCP && s->ops == &tcp_ops) return tcp_place(&s->options, name);
    return level == IPPROTO_IP ? ip_place(&s->options, name) : (struct place){0};
}

static bool ignored(const struct socket *s, int level, int name) {
    if (level == SOL_SOCKET)
        return name == SO_MARK || name == SO_NO_CHECK || name == SO_PASSCRED || name == SO_BUSY_POLL ||
               name == SO_INCOMING_CPU || name == SO_SNDLOWAT;
    if (level == IPPROTO_IP)
        return name == IP_MTU_DISCOVER || name == IP_RECVERR || name == IP_PKTINFO || name == IP_FREEBIND ||
               name == IP_RECVTOS || name == IP_BIND_ADDRESS_NO_PORT || name == IP_RECVTTL;
    return level == IPPROTO_TCP && s->ops == &tcp_ops &&
           (name == TCP_SYNCNT || name == TCP_WINDOW_CLAMP || name == TCP_NOTSENT_LOWAT ||
            name == TCP_FASTOPEN);
}

static long set_time(uint64_t *to, const void *value, size_t size) {
    int64_t v[2];
    if (size < sizeof v) return -EINVAL;
    memcpy(v, value, sizeof v);
    if (v[1] < 0 || v[1] >= 1000000) return -EDOM;
    *to = v[0] < 0
              ? 0
              : min_u64((uint64_t)v[0], NEVER / NS_PER_SECOND / 4) * NS_PER_SECOND + (uint64_t)v[1] * 1000;
    return 0;
}

long socket_set_option(struct socket *s, int level, int name, const void *value, size_t size) {
    struct socket_options *o = &s->options;
    int32_t v[2] = {0, 0};
    if (level == SOL_SOCKET && (name == SO_RCVTIMEO_OLD || name == SO_RCVTIMEO_NEW))
        return set_time(&o->receive_timeout, value, size);
    if (level == SOL_SOCKET && (name == SO_SNDTIMEO_OLD || name == SO_SNDTIMEO_NEW))
        return set_time(&o->send_timeout, value, size);
    if (level == IPPROTO_TCP && name == TCP_CONGESTION && s->ops == &tcp_ops) {
        bool cubic = size >= 5 && !memcmp(value, "cubic", 5);
        if (!cubic && !(size >= 3 && !memcmp(value, "bbr", 3))) return -ENOENT;
        o->cubic = cubic; /* of connections that begin from now on */
        return 0;
    }
    if (size < sizeof v[0] && !(level == IPPROTO_IP && size)) return -EINVAL;
    memcpy(v, value, min_u64(size, sizeof v));
    if (level == SOL_SOCKET && name == SO_LINGER) {
        if (size < sizeof v) return -EINVAL;
        o->linger_on = v[0], o->linger_s = v[1];
        return 0;
    }
    if (level == SOL_SOCKET && (name == SO_SNDBUF || name == SO_SNDBUFFORCE)) {
        o->send_bytes = (uint32_t)max_u64(min_u64((uint32_t)v[0] * 2ull, BUFFER_MOST), BUFFER_LEAST);
        o->user_send = true;
    } else if (level == SOL_SOCKET && (name == SO_RCVBUF || name == SO_RCVBUFFORCE)) {
        o->receive_bytes = (uint32_t)max_u64(min_u64((uint32_t)v[0] * 2ull, BUFFER_MOST), BUFFER_LEAST);
        o->user_receive = true;
    } else {
        struct place place = find(s, level, name);
        if (!place.at) return ignored(s, level, name) ? 0 : -ENOPROTOOPT;
        bool positive =
            level == IPPROTO_TCP && (name == TCP_KEEPIDLE || name == TCP_KEEPINTVL || name == TCP_KEEPCNT);
        if (positive && (v[0] < 1 || v[0] > (name == TCP_KEEPCNT ? 127 : 32767))) return -EINVAL;
        if (level == IPPROTO_TCP && name == TCP_MAXSEG && (v[0] < 88 || v[0] > 32767)) return -EINVAL;
        bool flag = place.bytes == sizeof(bool) && !positive && level != IPPROTO_IP;
        if (flag)
            *(bool *)place.at = v[0] != 0;
        else
            memcpy(place.at, v, place.bytes);
    }
    if (s->ops->options_changed) s->ops->options_changed(s);
    net_flush();
    return 0;
}

static long give(void *value, size_t *size, const void *from, size_t bytes) {
    *size = min_u64(*size, bytes);
    memcpy(value, from, *size);
    return 0;
}

static long give_int(void *value, size_t *size, int32_t number) {
    return give(value, size, &number, sizeof number);
}

long socket_get_option(struct socket *s, int level, int name, void *value, size_t *size) {
    struct socket_options *o = &s->options;
    if (level == SOL_SOCKET) {
        uint64_t ns = name == SO_RCVTIMEO_OLD ? o->receive_timeout : o->send_timeout;
        int64_t time[2] = {(int64_t)(ns / NS_PER_SECOND), (int64_t)(ns % NS_PER_SECOND / 1000)};
        int32_t linger[2] = {o->linger_on, o->linger_s}, nobody[3] = {1, 0, 0};
        switch (name) {
        case SO_ERROR: return give_int(value, size, socket_take_error(s));
        case SO_TYPE: return give_int(value, size, s->type);
        case SO_DOMAIN: return give_int(value, size, s->domain);
        case SO_PROTOCOL:
            return give_int(value, size, s->ops == &tcp_ops ? IP_TCP : s->ops == &udp_ops ? IP_UDP : 0);
        case SO_ACCEPTCONN: return give_int(value, size, s->listening);
        case SO_SNDBUF: return give_int(value, size, (int32_t)o->send_bytes);
        case SO_RCVBUF: return give_int(value, size, (int32_t)o->receive_bytes);
        case SO_LINGER: return give(value, size, linger, sizeof linger);
        case SO_RCVTIMEO_OLD:
        case SO_SNDTIMEO_OLD: return give(value, size, time, sizeof time);
        case SO_PEERCRED: return s->domain == 1 ? give(value, size, nobody, sizeof nobody) : -ENOPROTOOPT;
        default: break;
        }
    }
    if (level == IPPROTO_TCP && name == TCP_CONGESTION && s->ops == &tcp_ops) {
        char used[16] = "bbr";
        if (o->cubic) memcpy(used, "cubic", 5);
        return give(value, size, used, sizeof used);
    }
    if (level == IPPROTO_TCP && name == TCP_MAXSEG && s->ops == &tcp_ops && !o->max_segment)
        return give_int(value, size, ip_mtu(s->remote.ip ? s->remote.ip : net->config.ip) - 40);
    struct place place = find(s, level, name);
    if (!place.at) return ignored(s, level, name) ? give_int(value, size, 0) : -ENOPROTOOPT;
    int32_t number = 0;
    memcpy(&number, place.at, place.bytes);
    return give_int(value, size, number);
}
