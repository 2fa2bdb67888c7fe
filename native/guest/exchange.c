/*
 * The one door to the monitor. An exchange sends the output that the channels hold, and
 * brings input, signals, the window's size, control requests and, if asked, the time. It is
 * expensive (30-50 us), so output is gathered per write and clock reads go without.
 */
#include "file.h"

#define CALLS_PER_EXCHANGE 4096u /* a program that only computes still sees signals and control */
#define STALE_CALLS 16u

static uint8_t control_buffer[PATH_MAX + 8];
static uint32_t calls;
static bool answering;

static void take_signals(void) {
    uint32_t signals_in = port->signals;
    port->signals = 0;
    if (port->rows != tty.rows || port->columns != tty.columns) {
        tty.rows = port->rows;
        tty.columns = port->columns;
    }
    for (int n = 1; n <= 32; n++)
        if (signals_in & 1u << (n - 1)) signal_raise(n, SI_USER);
}

static void exchange_once(uint32_t flags, uint64_t deadline_ns, bool want_input) {
    volatile struct ls_channel *console = &port->channel[LS_CH_CONSOLE];
    volatile struct ls_channel *control = &port->channel[LS_CH_CONTROL];
    uint64_t input_gpa = 0;
    port->flags = flags;
    port->deadline_ns = min_u64(deadline_ns, alarm_due());
    console->in_cap = console_room(want_input || console_wanted(), &input_gpa);
    console->in_gpa = input_gpa;
    console->in_len = 0;
    control->in_cap = answering ? 0 : sizeof control_buffer;
    control->in_gpa = gpa_of(control_buffer);
    control->in_len = 0;
    __asm__ volatile("out %%al, %0" ::"i"(LS_PORT_EXCHANGE), "a"(0) : "memory");
    calls = 0;
    clock_exchanged(flags & (LS_EX_TIME | LS_EX_WAIT));
    take_signals();
    console_input(console->in_len, console->in_flags & LS_IN_EOF);
}

void exchange(uint32_t flags, uint64_t deadline_ns, bool want_input) {
    exchange_once(flags, deadline_ns, want_input);
    uint32_t length = port->channel[LS_CH_CONTROL].in_len;
    if (length && !answering) {
        answering = true; /* its answer goes out by exchanges of its own */
        control_answer(control_buffer, length);
        answering = false;
    }
    tty_flush_echo();
    alarms_ring();
}

/* Sends bytes at once, which lie in the direct map (a kernel stack does not). The channel holds nothing
 * before and nothing after. */
void exchange_send(unsigned channel, const void *bytes, uint32_t length) {
    assert(gpa_of(bytes) < boot->ram_bytes);
    port->channel[channel].out_gpa = gpa_of(bytes);
    port->channel[channel].out_len = length;
    exchange(0, NEVER, false);
    port->channel[channel].out_len = 0;
}

bool channel_hung_up(unsigned channel) { return port->channel[channel].out_flags & LS_OUT_HANGUP; }

bool exchange_is_stale(void) { return calls >= STALE_CALLS; }

void exchange_if_overdue(void) {
    if (++calls >= CALLS_PER_EXCHANGE) exchange(LS_EX_TIME, NEVER, false);
}
