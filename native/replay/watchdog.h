// Watches for a guest that computes without an access while another of its threads, or a timer, is due.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

#include "memory/guest_memory.h"

namespace lockstep {

uint64_t monotonic_us();  // CLOCK_MONOTONIC

class Watchdog {
 public:
  static constexpr uint32_t kLimitMs = 20;  // of computing without an access
  // `accesses` goes up with each access; `now_us` is virtual time; `kick` has the vCPU come out.
  Watchdog(const GuestMemory& memory, std::function<uint64_t()> accesses, std::function<uint64_t()> now_us,
           std::function<void()> kick);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  // The vCPU thread, after a kick: was it ours? Then when the guest's next timer is due (UINT64_MAX: none),
  // in virtual microseconds.
  std::optional<uint64_t> take_bite();

 private:
  void watch();
  bool is_due(uint64_t* timer_due_us) const;
  const GuestMemory& memory_;
  const std::function<uint64_t()> accesses_, now_us_;
  const std::function<void()> kick_;
  std::atomic<bool> bites_{false};
  std::atomic<uint64_t> timer_due_us_{UINT64_MAX};
  std::mutex mutex_;
  std::condition_variable changed_;
  bool over_ = false;
  std::thread thread_;
};

}  // namespace lockstep
