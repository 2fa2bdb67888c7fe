#include "replay/watchdog.h"

#include <time.h>

#include <chrono>
#include <utility>

#include "guest/abi.h"

namespace lockstep {

namespace {
constexpr uint32_t kLookMs = 5;
}

uint64_t monotonic_us() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000ull + now.tv_nsec / 1000;
}

Watchdog::Watchdog(const GuestMemory& memory, std::function<uint64_t()> accesses,
                   std::function<uint64_t()> now_us, std::function<void()> kick)
    : memory_(memory), accesses_(std::move(accesses)), now_us_(std::move(now_us)), kick_(std::move(kick)) {
  thread_ = std::thread([this] { watch(); });
}

Watchdog::~Watchdog() {
  {
    std::lock_guard lock(mutex_);
    over_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

std::optional<Watchdog::Bite> Watchdog::take_bite() {
  std::lock_guard lock(mutex_);
  return std::exchange(bite_, std::nullopt);
}

// The kernel keeps these words true while it runs; a torn or stale one only makes us look again.
Watchdog::Bite Watchdog::look() const {
  const auto* page = reinterpret_cast<const ls_exchange*>(memory_.host() + LS_GPA_EXCHANGE);
  const uint64_t due_ns = __atomic_load_n(&page->timer_due_ns, __ATOMIC_RELAXED);
  const uint32_t runnable = __atomic_load_n(&page->runnable_threads, __ATOMIC_RELAXED);
  Bite bite;
  if (due_ns != UINT64_MAX && due_ns != 0) bite.timer_due_us = due_ns / 1000 + (due_ns % 1000 != 0);
  bite.is_due = runnable > 0 || bite.timer_due_us <= now_us_();
  return bite;
}

void Watchdog::watch() {
  using std::chrono::milliseconds;
  using std::chrono::steady_clock;
  uint64_t seen = accesses_();
  steady_clock::time_point since = steady_clock::now();
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, milliseconds(kLookMs), [this] { return over_; })) {
    const steady_clock::time_point now = steady_clock::now();
    const uint64_t accesses = accesses_();
    if (accesses != seen) {
      seen = accesses;
      since = now;
      continue;
    }
    if (now - since < milliseconds(kLimitMs)) continue;
    const Bite bite = look();
    if (!bite.is_due && now - since < milliseconds(computing_ms_max_)) continue;
    since = now;
    bite_ = bite;
    kick_();
  }
}

}  // namespace lockstep
