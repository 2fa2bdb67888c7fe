/*
 * Virtual time. It comes with exchanges; between them every reading adds a small fixed step,
 * so that time is strictly monotonic and no reading costs an exit, until 64 readings in a row
 * suggest that the program is waiting for time to pass.
 */
#include "kernel.h"
#include <linux/times.h>

#define STEP_NS 1000u
#define READINGS_PER_EXCHANGE 64u
#define TICKS_PER_SECOND 100u

static uint64_t now_ns;
static uint32_t readings;
static uint64_t timer_at = NEVER, timer_interval; /* ITIMER_REAL */

void clock_exchanged(bool with_time) {
    now_ns = max_u64(now_ns, port->time_ns);
    if (with_time) readings = 0;
}

void clock_if_stopped(void) {
    if (!port->reschedule) return;
    port->reschedule = 0;
    clock_exchanged(true);
    timer_check();
}

uint64_t clock_now_still(void) { return now_ns; }

uint64_t clock_now(void) {
    if (++readings > READINGS_PER_EXCHANGE) exchange(LS_EX_TIME, NEVER, false);
    return now_ns += STEP_NS;
}

uint64_t clock_since_boot(void) { return clock_now() - port->boot_time_ns; }

/* ---- timers: they fire at exchanges, the only places where time really moves ------------- */
uint64_t timer_due(void) { return timer_at; }

/* The monitor reads it at any time: a program that computes past it is stopped. */
static void timer_set(uint64_t at) { port->timer_due_ns = timer_at = at; }

void timer_check(void) {
    if (now_ns < timer_at) return;
    timer_set(timer_interval ? max_u64(timer_at + timer_interval, now_ns + 1) : NEVER);
    signal_raise(SIGALRM, SI_KERNEL);
}

static struct timeval timeval_of(uint64_t ns) {
    return (struct timeval){(long)(ns / NS_PER_SECOND), (long)(ns % NS_PER_SECOND / 1000)};
}

static uint64_t timer_left(void) {
    return timer_at == NEVER ? 0 : timer_at > now_ns ? timer_at - now_ns : 1000;
}

long sys_setitimer(int which, uint64_t new, uint64_t old) {
    struct itimerval value = {0}, was = {timeval_of(timer_interval), timeval_of(timer_left())};
    if (which < 0 || which > 2) return -EINVAL;
    if (new &&copy_in(&value, new, sizeof value)) return -EFAULT;
    if (which != ITIMER_REAL) return old ? copy_out(old, &(struct itimerval){0}, sizeof was) : 0;
    if (old && copy_out(old, &was, sizeof was)) return -EFAULT;
    uint64_t in = (uint64_t)value.it_value.tv_sec * NS_PER_SECOND + (uint64_t)value.it_value.tv_usec * 1000;
    timer_interval =
        (uint64_t)value.it_interval.tv_sec * NS_PER_SECOND + (uint64_t)value.it_interval.tv_usec * 1000;
    timer_set(in ? clock_now() + in : NEVER);
    return 0;
}

long sys_getitimer(int which, uint64_t to) {
    struct itimerval value = {0};
    if (which < 0 || which > 2) return -EINVAL;
    if (which == ITIMER_REAL)
        value = (struct itimerval){timeval_of(timer_interval), timeval_of(timer_left())};
    return copy_out(to, &value, sizeof value);
}

long sys_alarm(unsigned seconds) {
    uint64_t left = (timer_left() + NS_PER_SECOND - 1) / NS_PER_SECOND;
    timer_interval = 0;
    timer_set(seconds ? clock_now() + seconds * NS_PER_SECOND : NEVER);
    return (long)left;
}

/* ---- reading ------------------------------------------------------------------------------- */
static bool absolute_clock(int clock) {
    return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI ||
           clock == CLOCK_REALTIME_ALARM;
}

/* Negative clocks are a process's CPU time: here time since boot, as for the others. */
static bool known_clock(int clock) { return clock <= CLOCK_TAI && clock != 10; }

long sys_clock_gettime(int clock, uint64_t to) {
    if (!known_clock(clock)) return -EINVAL;
    uint64_t ns = absolute_clock(clock) ? clock_now() : clock_since_boot();
    struct timespec value = {(long)(ns / NS_PER_SECOND), (long)(ns % NS_PER_SECOND)};
    return copy_out(to, &value, sizeof value);
}

long sys_clock_getres(int clock, uint64_t to) {
    if (!known_clock(clock)) return -EINVAL;
    return to ? copy_out(to, &(struct timespec){0, 1}, sizeof(struct timespec)) : 0;
}

long sys_gettimeofday(uint64_t to, uint64_t zone) {
    struct timeval value = timeval_of(clock_now());
    if (zone && copy_out(zone, &(struct timezone){0}, sizeof(struct timezone))) return -EFAULT;
    return to ? copy_out(to, &value, sizeof value) : 0;
}

long sys_time(uint64_t to) {
    long seconds = (long)(clock_now() / NS_PER_SECOND);
    return to && copy_out(to, &seconds, sizeof seconds) ? -EFAULT : seconds;
}

long sys_times(uint64_t to) {
    long ticks = (long)(clock_since_boot() / (NS_PER_SECOND / TICKS_PER_SECOND));
    struct tms value = {.tms_utime = ticks};
    return to && copy_out(to, &value, sizeof value) ? -EFAULT : ticks;
}

/* ---- sleeping --------------------------------------------------------------------------------- */
bool ns_from_timespec(uint64_t address, uint64_t *ns) {
    struct timespec value;
    if (copy_in(&value, address, sizeof value)) return false;
    if (value.tv_sec < 0 || value.tv_nsec < 0 || value.tv_nsec >= (long)NS_PER_SECOND) return false;
    if ((uint64_t)value.tv_sec > NEVER / NS_PER_SECOND / 4) value.tv_sec = NEVER / NS_PER_SECOND / 4;
    *ns = (uint64_t)value.tv_sec * NS_PER_SECOND + (uint64_t)value.tv_nsec;
    return true;
}

static long sleep_until(uint64_t deadline_ns, uint64_t left) {
    while (clock_now_still() < deadline_ns) {
        if (signal_ready()) {
            uint64_t ns = deadline_ns - clock_now_still();
            struct timespec value = {(long)(ns / NS_PER_SECOND), (long)(ns % NS_PER_SECOND)};
            return left && copy_out(left, &value, sizeof value) ? -EFAULT : -ERESTARTNOHAND;
        }
        exchange(LS_EX_WAIT, deadline_ns, false);
    }
    return 0;
}

long sys_clock_nanosleep(int clock, int flags, uint64_t request, uint64_t left) {
    uint64_t ns;
    if (!known_clock(clock)) return -EINVAL;
    if (!user_ok(request, sizeof(struct timespec), false)) return -EFAULT;
    if (!ns_from_timespec(request, &ns)) return -EINVAL;
    if (!(flags & TIMER_ABSTIME)) return ns ? sleep_until(clock_now() + ns, left) : 0;
    return sleep_until(absolute_clock(clock) ? ns : ns + port->boot_time_ns, 0);
}

long sys_nanosleep(uint64_t request, uint64_t left) {
    return sys_clock_nanosleep(CLOCK_MONOTONIC, 0, request, left);
}
