// How far a shadow is behind, and what that means for its primary: nothing; to go on more slowly; or without
// it. Behind is what the shadow has not executed yet, be it on its way, waiting there, or lost with a link
// that carries nothing. Pure, as SilenceWatch is.
//
// Past the first bound the primary pauses at each frame for so long that it makes log at the rate at which
// the shadow executes it: somewhat faster at the bound, ever slower beyond. So the lag settles near the bound
// however slow the shadow or the link is. A shadow that comes past the second bound all the same hardly moves
// any more, and costs more than it protects.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>

namespace lockstep {

class LagWatch {
 public:
  // The age of what is behind decides how long output waits and a takeover takes; its bytes, how much memory
  // it needs.
  static constexpr uint64_t kAgeUsMax = 500'000;  // also of what it will be when the shadow comes to it
  static constexpr uint64_t kDropFactor = 4;      // of the bytes

  LagWatch(uint64_t bytes_max, uint64_t drop_age_us) : bytes_max_(bytes_max), drop_age_us_(drop_age_us) {}

  // A shadow that has executed everything up to `bytes` of log.
  void restart(uint64_t bytes, uint64_t now_us);
  // It stands by from now on: what it was sent while it loaded is no older than that.
  void forgive(uint64_t now_us);
  // Both in bytes of log since the machine's boot.
  void sent(uint64_t bytes, uint64_t now_us);
  void executed(uint64_t bytes, uint64_t now_us);

  uint64_t bytes() const { return sent_ - executed_; }
  uint64_t age_us(uint64_t now_us) const;  // of the oldest that is behind
  bool is_late(uint64_t now_us) const { return excess(now_us) > 1; }
  bool is_lost(uint64_t now_us) const;
  // How long to wait before a frame of so many bytes, unless the lag falls below the bound meanwhile.
  uint64_t pause_us(size_t frame_bytes, uint64_t now_us) const;

 private:
  double excess(uint64_t now_us) const;  // 1 at the first bound
  double rate(uint64_t now_us) const;    // bytes a microsecond

  struct Sent {
    uint64_t bytes, at_us;
  };
  const uint64_t bytes_max_, drop_age_us_;
  uint64_t sent_ = 0, executed_ = 0;
  std::deque<Sent> behind_;  // coarse: what was sent within a millisecond is one
  // How fast the shadow was in the last whole window, and where the one that is open began.
  uint64_t window_us_ = 0, window_bytes_ = 0;
  double last_rate_ = 0;
};

}  // namespace lockstep
