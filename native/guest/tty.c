/*
 * The terminal's line discipline: what Linux does between a keyboard and read(2). Input is
 * edited into lines (ICANON), echoed (ECHO) and searched for Ctrl-C (ISIG).
 */
#include "file.h"
#include <asm/ioctls.h>
#include <asm/termbits.h>

#define QUEUE 4096u
#define MARK_LINE 1u /* the byte ends a line */
#define MARK_EOF 2u  /* Ctrl-D: ends a line without being part of it */

struct tty tty = {
    .termios = {.iflag = ICRNL | IXON | IUTF8,
                .oflag = OPOST | ONLCR,
                .cflag = B38400 | CS8 | CREAD | HUPCL,
                .lflag = ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN,
                .cc = {3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22}},
    .group = 1,
};

static uint8_t queue[QUEUE], mark[QUEUE];
static uint32_t taken, ready, typed; /* counters: [taken, ready) may be read, [ready, typed) is edited */
static uint8_t out[131072 + 8192] __attribute__((aligned(4096)));
static uint32_t out_length; /* echo that waits for the next output or exchange */

static bool flag(uint32_t bit) { return tty.termios.lflag & bit; }
static bool canonical(void) { return flag(ICANON); }
static bool is_char(uint8_t c, int index) { return tty.termios.cc[index] && c == tty.termios.cc[index]; }

/* ---- output -------------------------------------------------------------------------------- */
static void put(uint8_t c) {
    if (out_length + 2 > sizeof out) return;
    if ((tty.termios.oflag & OPOST) && (tty.termios.oflag & ONLCR) && c == '\n') out[out_length++] = '\r';
    out[out_length++] = c;
}

static unsigned echo_channel(void) { return boot->flags & LS_BOOT_STDOUT_TTY ? LS_CH_CONSOLE : LS_CH_STDERR; }

static void flush(unsigned channel) {
    uint32_t length = out_length;
    out_length = 0;
    if (length) exchange_send(channel, out, length);
}

void tty_write(unsigned channel, const uint8_t *bytes, size_t length) {
    if (out_length && channel != echo_channel()) flush(echo_channel());
    for (size_t i = 0; i < length; i++) put(bytes[i]);
    flush(channel);
}

/* Echo is gathered while input is taken and sent afterwards: exchanges do not nest. */
void tty_flush_echo(void) { flush(echo_channel()); }

static void echo(uint8_t c) {
    if (!flag(ECHO) && !(c == '\n' && flag(ECHONL) && canonical())) return;
    if (flag(ECHOCTL) && (c < 32 || c == 127) && c != '\n' && c != '\t') {
        put('^');
        put(c ^ 64);
    } else {
        put(c);
    }
}

/* ---- editing --------------------------------------------------------------------------------- */
static void erase_one(void) {
    bool utf8 = tty.termios.iflag & IUTF8;
    uint8_t c;
    do c = queue[--typed % QUEUE];
    while (utf8 && (c & 0xc0) == 0x80 && typed != ready);
    if (!flag(ECHO)) return;
    unsigned width = flag(ECHOCTL) && (c < 32 || c == 127) && c != '\t' ? 2 : 1;
    while (flag(ECHOE) && width--) put('\b'), put(' '), put('\b');
}

static bool edit(uint8_t c) {
    if (is_char(c, VERASE)) {
        if (typed != ready) erase_one();
    } else if (is_char(c, VKILL)) {
        while (typed != ready) erase_one();
    } else if (flag(IEXTEN) && is_char(c, VWERASE)) {
        while (typed != ready && queue[(typed - 1) % QUEUE] == ' ') erase_one();
        while (typed != ready && queue[(typed - 1) % QUEUE] != ' ') erase_one();
    } else {
        return false;
    }
    return true;
}

static void append(uint8_t c, uint8_t how) {
    if (typed - taken >= QUEUE) return;
    queue[typed % QUEUE] = c;
    mark[typed++ % QUEUE] = how;
}

static bool signal_key(uint8_t c) {
    int signal = is_char(c, VINTR) ? SIGINT : is_char(c, VQUIT) ? SIGQUIT : is_char(c, VSUSP) ? SIGTSTP : 0;
    if (!flag(ISIG) || !signal) return false;
    if (!flag(NOFLSH)) taken = ready = typed;
    echo(c);
    signal_raise(signal, SI_KERNEL);
    return true;
}

static void input_byte(uint8_t c) {
    static bool literal;
    uint32_t iflag = tty.termios.iflag;
    if (iflag & ISTRIP) c &= 0x7f;
    if (literal) {
        literal = false;
        append(c, 0);
        echo(c);
        if (!canonical()) ready = typed;
        return;
    }
    if (signal_key(c)) return;
    if (c == '\r') {
        if (iflag & IGNCR) return;
        if (iflag & ICRNL) c = '\n';
    } else if (c == '\n' && (iflag & INLCR)) {
        c = '\r';
    }
    if (!canonical()) {
        append(c, 0);
        ready = typed;
        echo(c);
        return;
    }
    if (edit(c)) return;
    if (flag(IEXTEN) && is_char(c, VLNEXT)) {
        literal = true;
        return;
    }
    if (is_char(c, VEOF)) {
        append(0, MARK_EOF);
        ready = typed;
        return;
    }
    bool ends = c == '\n' || is_char(c, VEOL) || is_char(c, VEOL2);
    if (!ends && typed - taken >= QUEUE - 1) return; /* leave room for the line's end */
    append(c, ends ? MARK_LINE : 0);
    echo(c);
    if (ends) ready = typed;
}

void tty_input(const uint8_t *bytes, size_t length) {
    for (size_t i = 0; i < length; i++) input_byte(bytes[i]);
}

/* ---- reading ------------------------------------------------------------------------------------ */
/* An edited line that is full still takes its end, so a little room always remains. */
uint32_t tty_room(void) { return max_u64(QUEUE - (typed - taken), canonical() && ready == taken ? 64 : 0); }
uint32_t tty_queued(void) { return ready - taken; }

bool tty_readable(void) {
    uint32_t least = canonical() || tty.termios.cc[VTIME] ? 1 : max_u64(tty.termios.cc[VMIN], 1);
    return ready - taken >= least;
}

long tty_read(void *to, size_t bytes) {
    uint8_t *p = to;
    size_t n = 0, least = min_u64(bytes, tty.termios.cc[VMIN]);
    if (!canonical()) {
        if (ready - taken < least) return -EAGAIN;
        while (n < bytes && taken != ready) p[n++] = queue[taken++ % QUEUE];
        return (long)n; /* with VMIN = 0 perhaps none; VTIME is not waited for */
    }
    if (ready == taken) return -EAGAIN;
    while (n < bytes && taken != ready) {
        uint8_t how = mark[taken % QUEUE], c = queue[taken++ % QUEUE];
        if (how == MARK_EOF) break;
        p[n++] = c;
        if (how == MARK_LINE) break;
    }
    return (long)n;
}

/* ---- ioctl ----------------------------------------------------------------------------------------- */
static long set_termios(uint64_t from, bool discard) {
    struct terminal_modes new;
    if (copy_in(&new, from, sizeof new)) return -EFAULT;
    bool was = canonical();
    tty.termios = new;
    if (discard) taken = ready = typed;
    if (was != canonical()) ready = typed; /* a line being edited becomes readable */
    return 0;
}

long tty_ioctl(unsigned request, uint64_t argument) {
    uint16_t size[4] = {tty.rows, tty.columns, 0, 0};
    int32_t session = 1;
    switch (request) {
    case TCGETS: return copy_out(argument, &tty.termios, sizeof tty.termios);
    case TCSETS:
    case TCSETSW: return set_termios(argument, false);
    case TCSETSF: return set_termios(argument, true);
    case TIOCGWINSZ: return copy_out(argument, size, sizeof size);
    case TIOCSWINSZ:
        if (copy_in(size, argument, sizeof size)) return -EFAULT;
        tty.rows = size[0], tty.columns = size[1];
        return 0;
    case TIOCGPGRP: return copy_out(argument, &tty.group, sizeof tty.group);
    case TIOCSPGRP: return copy_in(&tty.group, argument, sizeof tty.group);
    case TIOCGSID: return copy_out(argument, &session, sizeof session);
    case TCFLSH:
        if (argument != TCOFLUSH) taken = ready = typed;
        return 0;
    case TIOCSCTTY:
    case TIOCNOTTY:
    case TCSBRK:
    case TCSBRKP:
    case TCXONC: return 0;
    default: return -ENOTTY;
    }
}
