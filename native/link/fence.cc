#include "link/fence.h"

#include <algorithm>

namespace lockstep {
namespace {

using Phase = FencePhase;
using Event = FenceEvent;

FenceStep go(FenceState state, Phase phase, uint32_t actions) {
  state.phase = phase;
  return {state, actions};
}

FenceStep back_off(FenceState state, Phase phase, uint32_t actions) {
  state.backoff_ms = std::clamp(state.backoff_ms * 2, kBackoffMinMs, kBackoffMaxMs);
  state.timer = true;
  return go(state, phase, actions | kStartTimer);
}

FenceStep claim(FenceState state, uint32_t actions) {
  state.backoff_ms = 0;
  state.timer = false;
  return go(state, Phase::kClaiming, actions | kClaim);
}

}  // namespace

FenceStep fence_step(FenceState state, FenceEvent event) {
  const bool lost = event == Event::kLinkLost || event == Event::kSilence;
  if (event == Event::kTimer) state.timer = false;
  switch (state.phase) {
    case Phase::kSolo:
      // Output must wait before the shadow may claim, not after.
      if (event == Event::kShadowReady && !state.timer) return go(state, Phase::kArming, kHoldOutput | kArm);
      if (event == Event::kEnded) return go(state, Phase::kEnded, 0);
      break;
    case Phase::kArming:
      if (event == Event::kArmRecorded) {
        state.backoff_ms = 0;
        return go(state, Phase::kProtected, kSendArmed);
      }
      if (event == Event::kArmUnreachable) return back_off(state, Phase::kSolo, kReleaseAll);
      // The shadow was never told that it is armed, so it will not claim.
      if (lost) return go(state, Phase::kSolo, kCloseLink | kReleaseAll);
      if (event == Event::kEnded) return go(state, Phase::kEnded, 0);
      break;
    case Phase::kProtected:
      if (lost) return claim(state, kHoldOutput | kCloseLink);
      if (event == Event::kTooLate) return claim(state, kHoldOutput);
      if (event == Event::kHandOver) {
        state.backoff_ms = kHandOverMs;
        state.timer = true;
        return go(state, Phase::kHandingOver, kHoldOutput | kSendHandOver | kStartTimer);
      }
      if (event == Event::kEnded) return go(state, Phase::kEnded, 0);
      break;
    case Phase::kHandingOver:
      // The shadow hangs up when it claims. That it is silent says no more.
      if (event == Event::kTimer) return claim(state, kCloseLink);
      break;
    case Phase::kFollowing:
      if (event == Event::kArmedReceived) return go(state, Phase::kArmed, 0);
      if (lost) return go(state, Phase::kFenced, kStopAcknowledging | kCloseLink | kGiveUp);
      if (event == Event::kDiverged) return go(state, Phase::kFenced, kStopAcknowledging | kGiveUp);
      if (event == Event::kEnded) return go(state, Phase::kEnded, 0);
      break;
    case Phase::kArmed:
      if (lost || event == Event::kHandOverReceived) return claim(state, kStopAcknowledging | kCloseLink);
      if (event == Event::kDiverged) return go(state, Phase::kFenced, kStopAcknowledging | kGiveUp);
      if (event == Event::kEnded) return go(state, Phase::kEnded, 0);
      break;
    case Phase::kClaiming:
    case Phase::kRetrying:
      if (event == Event::kDiverged) return go(state, Phase::kFenced, kGiveUp);
      if (event == Event::kEnded) return go(state, Phase::kEnded, 0);
      if (event == Event::kClaimWon) {
        state.generation++;
        return go(state, Phase::kWon, kCloseLink | kReleaseAll);
      }
      if (event == Event::kClaimLost) return go(state, Phase::kFenced, kCloseLink | kGiveUp);
      if (event == Event::kClaimUnreachable && state.phase == Phase::kClaiming) {
        return back_off(state, Phase::kRetrying, 0);
      }
      if (event == Event::kTimer && state.phase == Phase::kRetrying)
        return go(state, Phase::kClaiming, kClaim);
      break;
    case Phase::kWon:
      // As a primary that was never protected: the next shadow is armed for the generation after this one.
      if (event == Event::kShadowReady && !state.timer) return go(state, Phase::kArming, kHoldOutput | kArm);
      if (event == Event::kEnded) return go(state, Phase::kEnded, 0);
      break;
    case Phase::kFenced:
    case Phase::kEnded: break;
  }
  return {state, lost ? static_cast<uint32_t>(kCloseLink) : 0u};
}

bool SilenceWatch::silent(uint64_t now_us, uint64_t asked_us) {
  uint64_t gap = now_us - looked_us_;
  looked_us_ = now_us;
  if (gap > asked_us + silence_us_ / 2) heard_us_ = now_us;
  return now_us - heard_us_ >= limit_us();
}

}  // namespace lockstep
