#include "device/clock.h"

namespace lockstep {

namespace {
enum Register { kLow = 0, kHigh = 4, kVector = 8, kTimer = 12 };
}

void Clock::write(const Access& access) {
  switch (access.address - kPort) {
    case kVector: vector_ = static_cast<uint8_t>(access.value); break;
    case kTimer:
      // It runs from the time that this position brings: the last that is known may be long past.
      countdown_us_ = static_cast<uint32_t>(access.value);
      deadline_us_ = UINT64_MAX;
      break;
    default: break;
  }
}

uint64_t Clock::read(const Access& access) {
  switch (access.address - kPort) {
    case kLow: latched_high_ = static_cast<uint32_t>(now_us_ >> 32); return static_cast<uint32_t>(now_us_);
    case kHigh: return latched_high_;
    case kVector: return vector_;
    default: return 0;
  }
}

Want Clock::want(const Access& access) {
  Want want;
  want.time = access.address == kPort + kLow;
  want.bare = true;
  return want;
}

void Clock::time(uint64_t now_us) {
  now_us_ = now_us;
  if (countdown_us_) {
    deadline_us_ = now_us_ + countdown_us_;
    countdown_us_ = 0;
  }
  if (now_us_ < deadline_us_) return;
  deadline_us_ = UINT64_MAX;
  sink_.raise(vector_);
}

void Clock::save(StateWriter& out) const {
  out.put(now_us_);
  out.put(deadline_us_);
  out.put(countdown_us_);
  out.put(latched_high_);
  out.put(vector_);
}

void Clock::restore(StateReader& in) {
  in.get(now_us_);
  in.get(deadline_us_);
  in.get(countdown_us_);
  in.get(latched_high_);
  in.get(vector_);
}

}  // namespace lockstep
