// What has to do with time, in the fence and around it. Every order of events: link_fence_model_test.cc.
#include "link/fence.h"

#include "test/check.h"

namespace lockstep::test {
namespace {

TEST(an_unreachable_arbiter_is_asked_again_ever_less_often) {
  FenceState s{FencePhase::kArmed, false, 1, 0};
  auto step = fence_step(s, FenceEvent::kLinkLost);
  CHECK(step.actions == (kStopAcknowledging | kCloseLink | kClaim) &&
        step.state.phase == FencePhase::kClaiming);
  for (uint32_t wait : {50, 100, 200, 400, 800, 1000, 1000}) {
    step = fence_step(step.state, FenceEvent::kClaimUnreachable);
    CHECK(step.actions == kStartTimer && step.state.backoff_ms == wait);
    step = fence_step(step.state, FenceEvent::kTimer);
    CHECK(step.actions == kClaim);
  }
  step = fence_step(step.state, FenceEvent::kClaimWon);
  CHECK(step.actions == (kCloseLink | kReleaseAll) && step.state.phase == FencePhase::kWon &&
        step.state.generation == 2);
}

TEST(a_stall_of_our_own_is_not_the_silence_of_the_peer) {
  SilenceWatch watch;
  watch.restart(0, 1'000'000);
  uint64_t now = 0;
  auto after = [&](uint64_t us) { return watch.silent(now += us, 50'000); };
  for (int i = 0; i < 19; i++) CHECK(!after(50'000));
  CHECK(after(50'000));
  watch.heard(now);
  CHECK(!after(50'000));
  CHECK(!after(5'000'000));  // we stood still, and start anew
  for (int i = 0; i < 19; i++) CHECK(!after(50'000));
  CHECK(after(50'000));
}

TEST(a_long_way_is_not_the_silence_of_the_peer) {
  SilenceWatch watch;
  watch.restart(0, 1'000'000);
  uint64_t now = 0;
  auto silent_after = [&](uint64_t limit_us) {
    watch.heard(now);
    const uint64_t begin = now;
    while (!watch.silent(now += 50'000, 50'000)) CHECK(now - begin < limit_us);
    return now - begin == limit_us;
  };
  watch.round_trip(400'000);
  CHECK(silent_after(1'800'000));
  watch.round_trip(60'000'000);
  CHECK(silent_after(3'000'000));  // and yet there is an end to it
  watch.round_trip(0);
  CHECK(silent_after(1'000'000));
}

}  // namespace
}  // namespace lockstep::test
