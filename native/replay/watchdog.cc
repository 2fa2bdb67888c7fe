#include "replay/watchdog.h"

#include <time.h>

#include <algorithm>
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

Watchdog::Watchdog(const GuestMemory& memory, std::function<uint64_t()> computes_since_us,
                   std::function<uint64_t()> now_us, std::function<void()> kick)
    : memory_(memory),
      computes_since_us_(std::move(computes_since_us)),
      now_us_(std::move(now_us)),
      kick_(std::move(kick)) {
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
  uint64_t bitten_us = 0;
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, std::chrono::milliseconds(kLookMs), [this] { return over_; })) {
    const uint64_t since_us = computes_since_us_();
    const uint64_t now_us = monotonic_us();
    if (!since_us) continue;
    const uint64_t computed_us = now_us - std::min(now_us, std::max(since_us, bitten_us));
    if (computed_us < kLimitMs * 1000) continue;
    const Bite bite = look();
    if (!bite.is_due && computed_us < computing_ms_max_ * uint64_t{1000}) continue;
    bitten_us = now_us;
    bite_ = bite;
    kick_();
  }
}

}  // namespace lockstep
