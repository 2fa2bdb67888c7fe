// The protocol that lets exactly one side go on, as one pure function: (state, event) -> (state, actions).
// No sockets, no clocks, no threads: native/test/link_fence_model_test.cc walks through every order of
// events.
//
//   primary:  kSolo -> kArming -> kProtected --lost--> kClaiming <-> kRetrying
//   shadow:   kFollowing -> kArmed ------------lost-------^   |         |
//                   \--lost--> kFenced <----- lost -----------+--- won -+--> kWon
//
//   with a new shadow:  kWon -> kArming, as from kSolo; so generations go on
//   a planned switch:   kProtected --asked--> kHandingOver --timer--> kClaiming, the shadow kArmed ->
//   kClaiming
//
// A side that hands over leaves the claim to its shadow for a while, and then claims like any other: it
// loses, or finds that its shadow never came to it and goes on. Who waits for whom decides nothing but who
// wins.
//
//   a shadow too late:  kProtected --too late--> kClaiming, and the link is closed once that is won
//
// A primary that gives up a living shadow claims before it hangs up, so that the shadow does not suspect it,
// and win with all that it has yet to catch up with.
//
// Why it is safe. Output leaves a protected primary only when the shadow has acknowledged the log up to it.
// A shadow stops acknowledging for good before it claims; so whatever the primary releases later was
// acknowledged earlier, and is in the shadow's history. A primary without its shadow releases nothing
// more until it has won the generation that the shadow was armed for; then the shadow can never win it. No
// step depends on how long anything takes, so a paused side may wake at any time.
#pragma once

#include <algorithm>
#include <cstdint>

namespace lockstep {

enum class FencePhase : uint8_t {
  kSolo,         // primary, no shadow armed: output leaves at once
  kArming,       // primary: output waits already, the arbiter is being told
  kProtected,    // primary: output waits for acknowledgements
  kFollowing,    // shadow, not armed: may not claim
  kArmed,        // shadow: may claim
  kClaiming,     // a claim of generation + 1 is on its way
  kRetrying,     // the arbiter did not answer: silent until the timer
  kWon,          // this side goes on, alone
  kFenced,       // this side must not
  kHandingOver,  // protected primary: the shadow was asked to claim; output waits
  kEnded,        // the machine ended on purpose: nobody takes over
};

enum class FenceEvent : uint8_t {
  kShadowReady,  // and it has the log up to everything that was released
  kArmRecorded,
  kArmUnreachable,
  kArmedReceived,
  kLinkLost,
  kSilence,
  kClaimWon,
  kClaimLost,
  kClaimUnreachable,
  kTimer,
  kDiverged,  // this side's replay cannot be trusted any more
  kEnded,
  kTooLate,           // primary: the shadow is too far behind to wait for
  kHandOver,          // primary: somebody wants the shadow to go on
  kHandOverReceived,  // shadow: the primary said so, behind all that it sent
};

// Carried out in this order.
enum FenceAction : uint32_t {
  kHoldOutput = 1,         // from now on only what was acknowledged may leave
  kStopAcknowledging = 2,  // for good
  kCloseLink = 4,
  kGiveUp = 8,       // this side will never speak again
  kReleaseAll = 16,  // everything may leave
  kSendArmed = 32,
  kStartTimer = 64,  // state.backoff_ms
  kArm = 128,        // ask the arbiter, for generation + 1
  kSendHandOver = 512,
  kClaim = 256,  // ask the arbiter, for generation + 1
};

struct FenceState {
  FencePhase phase = FencePhase::kFollowing;
  bool timer = false;  // running
  uint64_t generation = 0;
  uint32_t backoff_ms = 0;
  bool operator==(const FenceState&) const = default;
};

struct FenceStep {
  FenceState state;
  uint32_t actions;
};

// How long the shadow may take to claim before the side that handed over does.
constexpr uint32_t kHandOverMs = 1000;
constexpr uint32_t kBackoffMinMs = 50, kBackoffMaxMs = 1000;

FenceStep fence_step(FenceState state, FenceEvent event);

// Decides whether a peer is silent, without ever taking a stall of this very process for silence.
class SilenceWatch {
 public:
  void restart(uint64_t now_us, uint64_t silence_us) {
    heard_us_ = looked_us_ = now_us;
    silence_us_ = silence_us;
    on_the_way_us_ = 0;
  }
  void heard(uint64_t at_us) { heard_us_ = std::max(heard_us_, at_us); }
  // How long word and answer are on their way now. Behind a queue that is long, and keeps the other side's
  // TCP waiting for acknowledgements as well, so that it may not even send; the queue may double meanwhile.
  void round_trip(uint64_t us) { on_the_way_us_ = std::min(2 * us, 2 * silence_us_); }
  uint64_t limit_us() const { return silence_us_ + on_the_way_us_; }
  uint64_t due_us() const { return heard_us_ + limit_us(); }
  // Called whenever the loop comes round, having asked to be woken after `asked_us`. True: suspect the peer.
  // Waking much later than asked means that this process, or its host, stood still: what the peer sent
  // meanwhile may not have been read yet, so the limit starts again.
  bool silent(uint64_t now_us, uint64_t asked_us);

 private:
  uint64_t silence_us_ = 0, on_the_way_us_ = 0, heard_us_ = 0, looked_us_ = 0;
};

}  // namespace lockstep
