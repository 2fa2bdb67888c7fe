/*
 * Virtual time. It comes with exchanges; between them every reading adds a small fixed step,
 * so that time is strictly monotonic and no reading costs an exit, until 64 readings in a row
 * suggest that the program is waiting for time to pass.
 */
#include "thread.h"
#include <linux/times.h>

#define STEP_NS 1000u
#define READINGS_PER_EXCHANGE 64u
#define TICKS_PER_SECOND 100u

static uint64_t now_ns;
static uint32_t readings;

void clock_exchanged(bool with_time) {
    now_ns = max_u64(now_ns, port->time_ns);
    if (with_time) readings = 0;
}

uint64_t clock_now_still(void) { return now_ns; }

uint64_t clock_now(void) {
    if (++readings > READINGS_PER_EXCHANGE) exchange(LS_EX_TIME, NEVER, false);
    return now_ns += STEP_NS;
}

uint64_t clock_now_exact(void) {
    exchange(LS_EX_TIME, NEVER, false);
    return clock_now();
}

uint64_t clock_since_boot(void) { return clock_now() - port->boot_time_ns; }

static struct timeval timeval_of(uint64_t ns) {
    return (struct timeval){(long)(ns / NS_PER_SECOND), (long)(ns % NS_PER_SECOND / 1000)};
}

/* ---- reading ------------------------------------------------------------------------------- */
bool clock_is_absolute(int clock) {
    return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI ||
           clock == CLOCK_REALTIME_ALARM;
}

/* Negative clocks are a process's or thread's CPU time. */
bool clock_is_known(int clock) { return clock <= CLOCK_TAI && clock != 10; }

bool cpu_time_is_read;

/* CPU time: of the time that passes, what no thread slept through. Once it is read, sleeping costs an
 * exchange more, for what was computed since the last one. */
static long cpu_time_of(int clock, uint64_t *ns) {
    const struct thread *thread = NULL;
    if (clock == CLOCK_THREAD_CPUTIME_ID) thread = current;
    if (clock < 0 && (clock & 4)) { /* ~tid, then three bits of which kind */
        int tid = ~(clock >> 3);
        if (!(thread = tid ? thread_find(tid) : current)) return -EINVAL;
    }
    cpu_time_is_read = true;
    clock_now();
    *ns = cpu_time(thread);
    return 0;
}

long sys_clock_gettime(int clock, uint64_t to) {
    if (!clock_is_known(clock)) return -EINVAL;
    uint64_t ns;
    bool is_cpu = clock < 0 || clock == CLOCK_PROCESS_CPUTIME_ID || clock == CLOCK_THREAD_CPUTIME_ID;
    long error = is_cpu ? cpu_time_of(clock, &ns) : 0;
    if (error) return error;
    if (!is_cpu) ns = clock_is_absolute(clock) ? clock_now() : clock_since_boot();
    struct timespec value = {(long)(ns / NS_PER_SECOND), (long)(ns % NS_PER_SECOND)};
    return copy_out(to, &value, sizeof value);
}

long sys_clock_getres(int clock, uint64_t to) {
    if (!clock_is_known(clock)) return -EINVAL;
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
    struct tms value = {.tms_utime = (long)(cpu_time(NULL) / (NS_PER_SECOND / TICKS_PER_SECOND))};
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
        thread_sleep(deadline_ns, "time", false);
    }
    return 0;
}

long sys_clock_nanosleep(int clock, int flags, uint64_t request, uint64_t left) {
    uint64_t ns;
    if (!clock_is_known(clock)) return -EINVAL;
    if (!user_ok(request, sizeof(struct timespec), false)) return -EFAULT;
    if (!ns_from_timespec(request, &ns)) return -EINVAL;
    if (!(flags & TIMER_ABSTIME)) return ns ? sleep_until(clock_now() + ns, left) : 0;
    return sleep_until(clock_is_absolute(clock) ? ns : ns + port->boot_time_ns, 0);
}

long sys_nanosleep(uint64_t request, uint64_t left) {
    return sys_clock_nanosleep(CLOCK_MONOTONIC, 0, request, left);
}
