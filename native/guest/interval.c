/* Timers that may repeat, and the process's own: setitimer, alarm, timer_create. */
#include "file.h"

static void ring(struct alarm *alarm) {
    struct interval *interval = (struct interval *)alarm;
    uint64_t now = clock_now_still(), times = 1;
    if (interval->every) {
        times += (now - alarm->at) / interval->every;
        alarm_set(alarm, alarm->at + times * interval->every);
    }
    interval->count += times;
    interval->expired(interval);
}

void interval_set(struct interval *interval, uint64_t at_ns, uint64_t every_ns) {
    interval->alarm.ring = ring;
    interval->every = every_ns;
    interval->count = 0;
    alarm_set(&interval->alarm, at_ns);
}

uint64_t interval_left(const struct interval *interval) {
    uint64_t now = clock_now_still();
    if (!interval->alarm.set) return 0;
    return interval->alarm.at > now ? interval->alarm.at - now : 1000;
}

long interval_from_program(struct interval *interval, int clock, bool absolute, uint64_t address) {
    uint64_t every, first;
    if (!user_ok(address, sizeof(struct itimerspec), false)) return -EFAULT;
    if (!ns_from_timespec(address, &every) || !ns_from_timespec(address + sizeof(struct timespec), &first))
        return -EINVAL;
    if (!first)
        interval_set(interval, NEVER, 0);
    else if (absolute)
        interval_set(interval, clock_is_absolute(clock) ? first : first + port->boot_time_ns, every);
    else
        interval_set(interval, clock_now() + first, every);
    return 0;
}

static struct timespec timespec_of(uint64_t ns) {
    return (struct timespec){(long)(ns / NS_PER_SECOND), (long)(ns % NS_PER_SECOND)};
}

long interval_to_program(const struct interval *interval, uint64_t address) {
    struct itimerspec value = {timespec_of(interval->every), timespec_of(interval_left(interval))};
    return copy_out(address, &value, sizeof value);
}

/* ---- setitimer: the virtual and the profiling one run in real time, for want of CPU time ------- */
static void itimer_expired(struct interval *interval);
static struct interval itimers[3] = {
    {.expired = itimer_expired}, {.expired = itimer_expired}, {.expired = itimer_expired}};

static void itimer_expired(struct interval *interval) {
    static const int signal[3] = {SIGALRM, SIGVTALRM, SIGPROF};
    signal_raise(signal[interval - itimers], SI_KERNEL);
}

static struct timeval timeval_of(uint64_t ns) {
    return (struct timeval){(long)(ns / NS_PER_SECOND), (long)(ns % NS_PER_SECOND / 1000)};
}

static uint64_t ns_of(struct timeval value) {
    return (uint64_t)value.tv_sec * NS_PER_SECOND + (uint64_t)value.tv_usec * 1000;
}

long sys_getitimer(int which, uint64_t to) {
    if (which < 0 || which > 2) return -EINVAL;
    struct itimerval value = {timeval_of(itimers[which].every), timeval_of(interval_left(&itimers[which]))};
    return copy_out(to, &value, sizeof value);
}

long sys_setitimer(int which, uint64_t new, uint64_t old) {
    struct itimerval value = {0};
    if (which < 0 || which > 2) return -EINVAL;
    if (new &&copy_in(&value, new, sizeof value)) return -EFAULT;
    if (value.it_value.tv_sec < 0 || (uint64_t)value.it_value.tv_usec >= 1000000) return -EINVAL;
    if (old && sys_getitimer(which, old)) return -EFAULT;
    uint64_t in = ns_of(value.it_value);
    interval_set(&itimers[which], in ? clock_now_exact() + in : NEVER, ns_of(value.it_interval));
    return 0;
}

long sys_alarm(unsigned seconds) {
    uint64_t left = (interval_left(&itimers[0]) + NS_PER_SECOND - 1) / NS_PER_SECOND;
    interval_set(&itimers[0], seconds ? clock_now_exact() + seconds * NS_PER_SECOND : NEVER, 0);
    return (long)left;
}

/* ---- timer_create ---------------------------------------------------------------------------- */
#define TIMERS_MAX 256
struct timer {
    struct interval interval;
    int id, clock, signal, tid, overrun;
    sigval_t value;
};
static struct timer *timers[TIMERS_MAX];

static void timer_expired(struct interval *interval) {
    struct timer *timer = (struct timer *)interval;
    timer->overrun = (int)min_u64(interval->count - 1, INT32_MAX);
    interval->count = 0;
    if (!timer->signal) return;
    siginfo_t info = {.si_signo = timer->signal, .si_code = SI_TIMER};
    info.si_tid = timer->id;
    info.si_overrun = timer->overrun;
    info.si_value = timer->value;
    struct thread *thread = timer->tid ? thread_find(timer->tid) : NULL;
    if (!timer->tid || thread) signal_send(thread, &info);
}

static struct timer *timer_get(int id) { return id >= 0 && id < TIMERS_MAX ? timers[id] : NULL; }

long sys_timer_create(int clock, uint64_t event, uint64_t to) {
    sigevent_t how = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
    int id = 0;
    if (!clock_is_known(clock)) return -EINVAL;
    if (event && copy_in(&how, event, sizeof how)) return -EFAULT;
    while (id < TIMERS_MAX && timers[id]) id++;
    if (id == TIMERS_MAX) return -EAGAIN;
    if (!event) how.sigev_value.sival_int = id;
    int tid = (how.sigev_notify & SIGEV_THREAD_ID) ? how._sigev_un._tid : 0;
    bool silent = (how.sigev_notify & ~SIGEV_THREAD_ID) == SIGEV_NONE;
    if ((tid && !thread_find(tid)) || (!silent && (how.sigev_signo < 1 || how.sigev_signo > SIGNALS)))
        return -EINVAL;
    if (!user_ok(to, sizeof id, true)) return -EFAULT;
    struct timer *timer = timers[id] = object_alloc(sizeof *timer);
    if (!timer) return -EAGAIN;
    timer->interval.expired = timer_expired;
    timer->id = id, timer->clock = clock, timer->tid = tid;
    timer->signal = silent ? 0 : how.sigev_signo;
    timer->value = how.sigev_value;
    return copy_out(to, &id, sizeof id);
}

long sys_timer_settime(int id, int flags, uint64_t new, uint64_t old) {
    struct timer *timer = timer_get(id);
    if (!timer) return -EINVAL;
    if (old && interval_to_program(&timer->interval, old)) return -EFAULT;
    if (!(flags & TIMER_ABSTIME)) clock_now_exact();
    return interval_from_program(&timer->interval, timer->clock, flags & TIMER_ABSTIME, new);
}

long sys_timer_gettime(int id, uint64_t to) {
    struct timer *timer = timer_get(id);
    return timer ? interval_to_program(&timer->interval, to) : -EINVAL;
}

long sys_timer_getoverrun(int id) {
    struct timer *timer = timer_get(id);
    return timer ? timer->overrun : -EINVAL;
}

long sys_timer_delete(int id) {
    struct timer *timer = timer_get(id);
    if (!timer) return -EINVAL;
    alarm_cancel(&timer->interval.alarm);
    object_free(timer, sizeof *timer);
    timers[id] = NULL;
    return 0;
}

/* execve keeps the process's three and deletes these. */
void timers_exec(void) {
    for (int id = 0; id < TIMERS_MAX; id++) sys_timer_delete(id);
}
