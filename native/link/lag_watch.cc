#include "link/lag_watch.h"

#include <algorithm>

namespace lockstep {
namespace {
constexpr uint64_t kGrainUs = 1000;
constexpr uint64_t kWindowUs = 100'000;
constexpr uint64_t kPauseUsMax = 1'000'000;
// By how much slower than the shadow, at the bound and far beyond it.
constexpr double kSlowerMin = 0.5, kSlowerMax = 3;
}  // namespace

void LagWatch::restart(uint64_t bytes, uint64_t now_us) {
  sent_ = executed_ = bytes;
  behind_.clear();
  window_us_ = now_us;
  window_bytes_ = bytes;
  last_rate_ = 0;
}

void LagWatch::forgive(uint64_t now_us) {
  for (Sent& one : behind_) one.at_us = now_us;
  window_us_ = now_us;
  window_bytes_ = executed_;
}

void LagWatch::sent(uint64_t bytes, uint64_t now_us) {
  // While nothing was behind, nothing could be executed either: that time says nothing of its rate.
  if (behind_.empty()) {
    window_us_ = now_us;
    window_bytes_ = executed_;
  }
  sent_ = bytes;
  if (!behind_.empty() && now_us - behind_.back().at_us < kGrainUs) {
    behind_.back().bytes = bytes;
  } else {
    behind_.push_back({bytes, now_us});
  }
}

void LagWatch::executed(uint64_t bytes, uint64_t now_us) {
  executed_ = std::clamp(bytes, executed_, sent_);
  while (!behind_.empty() && behind_.front().bytes <= executed_) behind_.pop_front();
  if (executed_ == window_bytes_ || now_us - window_us_ < kWindowUs) return;
  last_rate_ = static_cast<double>(executed_ - window_bytes_) / static_cast<double>(now_us - window_us_);
  window_us_ = now_us;
  window_bytes_ = executed_;
}

uint64_t LagWatch::age_us(uint64_t now_us) const {
  return behind_.empty() || behind_.front().at_us > now_us ? 0 : now_us - behind_.front().at_us;
}

// What is behind takes time to catch up with: that is known before it has become old. But a rate only says
// what a shadow can do where it had something to do all the time: what was sent just now may be on its way.
double LagWatch::excess(uint64_t now_us) const {
  const auto behind = static_cast<double>(bytes());
  const uint64_t age = age_us(now_us);
  const double per_us = age >= kWindowUs ? rate(now_us) : 0;
  const double late_us = std::max(static_cast<double>(age), per_us > 0 ? behind / per_us : 0);
  return std::max(behind / static_cast<double>(bytes_max_), late_us / static_cast<double>(kAgeUsMax));
}

// A window that is open for long counts: the shadow may have come to a halt in it. 0: nothing is known yet,
// or nothing moves.
double LagWatch::rate(uint64_t now_us) const {
  const uint64_t open_us = now_us - std::min(now_us, window_us_);
  if (open_us < kAgeUsMax) return last_rate_;
  return static_cast<double>(executed_ - window_bytes_) / static_cast<double>(open_us);
}

bool LagWatch::is_lost(uint64_t now_us) const {
  const uint64_t age = age_us(now_us);
  // One large frame is not far behind when it was only just sent.
  return age > drop_age_us_ || (bytes() > kDropFactor * bytes_max_ && age > kAgeUsMax);
}

uint64_t LagWatch::pause_us(size_t frame_bytes, uint64_t now_us) const {
  const double beyond = excess(now_us);
  if (beyond <= 1) return 0;
  const double slower = std::min(kSlowerMin + beyond - 1, kSlowerMax);
  const double pause = slower * static_cast<double>(frame_bytes) / std::max(rate(now_us), 1e-9);
  return static_cast<uint64_t>(std::min(pause, static_cast<double>(kPauseUsMax)));
}

}  // namespace lockstep
