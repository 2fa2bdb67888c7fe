// Watches for a guest that computes without an access: while another of its threads or a timer is due, or,
// where somebody follows it, for so long that the follower falls behind.
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
  // `computes_since_us`: since when the guest computes without an access, by monotonic_us(); 0 while it does
  // not. `now_us` is virtual time; `kick` has the vCPU come out.
  Watchdog(const GuestMemory& memory, std::function<uint64_t()> computes_since_us,
           std::function<uint64_t()> now_us, std::function<void()> kick);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  struct Bite {
    bool is_due = false;                 // something waits for the guest; else it has only computed for long
    uint64_t timer_due_us = UINT64_MAX;  // of the guest's next timer, in virtual time; the maximum: none
  };
  // The vCPU thread, after a kick: was it ours?
  std::optional<Bite> take_bite();
  // From now on also bites when the guest has computed for so long.
  void bite_after(uint32_t computing_ms) { computing_ms_max_ = computing_ms; }

 private:
  void watch();
  Bite look() const;
  const GuestMemory& memory_;
  const std::function<uint64_t()> computes_since_us_, now_us_;
  const std::function<void()> kick_;
  std::atomic<uint32_t> computing_ms_max_{UINT32_MAX};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<Bite> bite_;
  bool over_ = false;
  std::thread thread_;
};

}  // namespace lockstep
