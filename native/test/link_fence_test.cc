// Walks through every order of events of the fence: two sides and an arbiter, a link that loses, delays and
// is cut, answers of the arbiter that get lost, sides that die at any moment. A pause is an order in which a
// side does nothing for long, so all pauses are in here too.
#include "link/fence.h"

#include <deque>
#include <string>
#include <unordered_set>

#include "test/check.h"

namespace lockstep::test {
namespace {

constexpr int kEventsMax = 3;  // events that the primary logs, each with one output

enum Packet : uint8_t { kFrame, kArmed, kReadyAck, kEndedPacket, kDivergedPacket };

// One side, as the pair carries it out: actions become state.
struct Side {
  FenceState fence;
  bool alive = true, link_open = true, acknowledging = true;
  bool wants_arm = false, wants_claim = false;  // asked, the arbiter has not seen it yet
  uint8_t answer = 0;                           // 1 + FenceEvent: on its way back
  bool holding = false, free = false;           // output waits / may all leave
  uint8_t made = 0, acked = 0, received = 0, released = 0;
  bool won_ever = false;

  void apply(FenceEvent event, std::string* to_peer) {
    auto [next, actions] = fence_step(fence, event);
    bool is_live_primary = free || holding;
    (void)is_live_primary;
    fence = next;
    if (actions & kHoldOutput) {
      holding = true;
      free = false;
    }
    if (actions & kStopAcknowledging) acknowledging = false;
    if (actions & kCloseLink) link_open = false;
    if (actions & kGiveUp) {
      holding = true;
      free = false;
    }
    if (actions & kReleaseAll) {
      free = true;
      holding = false;
      if (fence.phase == FencePhase::kWon) won_ever = true;
    }
    if (actions & kSendArmed) to_peer->push_back(static_cast<char>(kArmed));
    if (actions & kArm) wants_arm = true;
    if (actions & kClaim) wants_claim = true;
    fence.backoff_ms = 0;  // time does not matter here
  }
};

struct World {
  Side primary, shadow;
  std::string to_shadow, to_primary;  // packets in flight, in order
  int8_t winner = 0;                  // the arbiter: 0 none, 1 primary, 2 shadow
  bool cut = false;

  std::string key() const {
    std::string k;
    for (const Side* s : {&primary, &shadow}) {
      for (int v : {static_cast<int>(s->fence.phase), int(s->fence.timer), int(s->fence.generation),
                    int(s->alive), int(s->link_open), int(s->acknowledging), int(s->wants_arm),
                    int(s->wants_claim), int(s->answer), int(s->holding), int(s->free), int(s->made),
                    int(s->acked), int(s->received), int(s->released), int(s->won_ever)}) {
        k += static_cast<char>(v);
      }
    }
    return k + char(winner) + char(cut) + to_shadow + '\xff' + to_primary;
  }
};

std::string broken(const World& w) {
  if (w.primary.won_ever && w.shadow.won_ever) return "both won";
  if (w.primary.fence.generation > 1 && w.shadow.fence.generation > 1) return "one generation, two winners";
  // All that ever left the primary must be in the history of a shadow that goes on.
  if (w.shadow.won_ever && w.primary.released > w.shadow.received)
    return "released what the winner never had";
  if (w.shadow.won_ever && w.primary.free) return "a loser that releases";
  if (!w.shadow.won_ever && w.shadow.released > 0) return "a shadow that speaks";
  return {};
}

struct Explorer {
  std::unordered_set<std::string> seen;
  std::deque<World> todo;
  size_t takeovers = 0, primaries_alone = 0;
  std::string first_broken;

  void visit(World w) {
    std::string why = broken(w);
    if (!why.empty() && first_broken.empty()) first_broken = why;
    if (!seen.insert(w.key()).second) return;
    takeovers += w.shadow.won_ever;
    primaries_alone += w.primary.won_ever;
    todo.push_back(std::move(w));
  }

  void sides(const World& w) {
    for (bool is_primary : {true, false}) {
      auto side = [&](World& x) -> Side& { return is_primary ? x.primary : x.shadow; };
      auto out = [&](World& x) { return is_primary ? &x.to_shadow : &x.to_primary; };
      World n = w;
      if (!side(n).alive) continue;
      auto event = [&](FenceEvent e) {
        World x = w;
        side(x).apply(e, out(x));
        visit(x);
      };
      // It may suspect at any moment, rightly or not; it notices a closed link late or early.
      if (w.primary.link_open || w.shadow.link_open || w.cut) event(FenceEvent::kSilence);
      if (side(n).fence.timer) event(FenceEvent::kTimer);
      if (!is_primary) event(FenceEvent::kDiverged);
      event(FenceEvent::kEnded);
      // The arbiter sees a question; its answer may get lost, before or after it acted.
      if (side(n).wants_claim || side(n).wants_arm) {
        for (bool acts : {true, false}) {
          for (bool answers : {true, false}) {
            World x = w;
            Side& s = side(x);
            bool is_claim = s.wants_claim;
            (is_claim ? s.wants_claim : s.wants_arm) = false;
            auto answer = is_claim ? FenceEvent::kClaimUnreachable : FenceEvent::kArmUnreachable;
            int8_t me = is_primary ? 1 : 2;
            if (acts && is_claim && x.winner == 0) x.winner = me;
            if (acts && answers) {
              answer = !is_claim        ? FenceEvent::kArmRecorded
                       : x.winner == me ? FenceEvent::kClaimWon
                                        : FenceEvent::kClaimLost;
            }
            s.answer = static_cast<uint8_t>(1 + static_cast<int>(answer));
            visit(x);
          }
        }
      }
      if (side(n).answer != 0) {
        World x = w;
        auto answer = static_cast<FenceEvent>(side(x).answer - 1);
        side(x).answer = 0;
        side(x).apply(answer, out(x));
        visit(x);
      }
      World dead = w;
      side(dead).alive = false;
      visit(dead);
    }
  }

  void outputs(const World& w) {
    // The primary logs an event and sends it; what it makes of it waits, or does not.
    if (w.primary.alive && w.primary.made < kEventsMax) {
      World x = w;
      x.primary.made++;
      if (x.primary.link_open) x.to_shadow += static_cast<char>(kFrame);
      visit(x);
    }
    if (w.primary.alive) {
      uint8_t may = w.primary.free ? w.primary.made : std::max(w.primary.released, w.primary.acked);
      if (may > w.primary.released) {
        World x = w;
        x.primary.released = may;
        visit(x);
      }
    }
    if (w.shadow.alive && w.shadow.free && w.shadow.released < w.shadow.received) {
      World x = w;
      x.shadow.released = x.shadow.received;
      visit(x);
    }
  }

  void link(const World& w) {
    if (!w.cut) {
      World x = w;
      x.cut = true;  // what was in flight may still arrive, or part of it
      visit(x);
    }
    if (w.cut && !w.to_shadow.empty()) {
      World x = w;
      x.to_shadow.pop_back();
      visit(x);
    }
    if (w.cut && !w.to_primary.empty()) {
      World x = w;
      x.to_primary.pop_back();
      visit(x);
    }
    if (!w.to_shadow.empty() && w.shadow.alive && w.shadow.link_open) {
      World x = w;
      char packet = x.to_shadow.front();
      x.to_shadow.erase(0, 1);
      if (packet == kFrame && x.shadow.acknowledging) {
        x.shadow.received++;
        if (!x.cut) x.to_primary += static_cast<char>(kReadyAck);
      }
      if (packet == kArmed) x.shadow.apply(FenceEvent::kArmedReceived, &x.to_primary);
      visit(x);
    }
    if (!w.to_primary.empty() && w.primary.alive && w.primary.link_open) {
      World x = w;
      x.to_primary.erase(0, 1);
      x.primary.acked++;
      visit(x);
    }
    // The shadow is ready, and has the log behind everything released so far.
    if (w.primary.alive && w.primary.link_open && w.primary.acked >= w.primary.released) {
      World x = w;
      x.primary.apply(FenceEvent::kShadowReady, &x.to_shadow);
      visit(x);
    }
  }

  void explore() {
    World start;
    start.primary.fence = {FencePhase::kSolo, false, 1, 0};
    start.primary.free = true;
    start.shadow.fence = {FencePhase::kFollowing, false, 1, 0};
    visit(start);
    while (!todo.empty() && first_broken.empty()) {
      World w = std::move(todo.front());
      todo.pop_front();
      sides(w);
      outputs(w);
      link(w);
    }
  }
};

TEST(every_order_of_events_leaves_one_winner_who_has_all_that_left) {
  Explorer explorer;
  explorer.explore();
  printf("# %zu states, %zu with the shadow live, %zu with the primary alone\n", explorer.seen.size(),
         explorer.takeovers, explorer.primaries_alone);
  if (!explorer.first_broken.empty()) printf("# %s\n", explorer.first_broken.c_str());
  CHECK(explorer.first_broken.empty());
  CHECK(explorer.takeovers > 1000 && explorer.primaries_alone > 1000);
}

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
  CHECK(step.actions == kReleaseAll && step.state.phase == FencePhase::kWon && step.state.generation == 2);
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

}  // namespace
}  // namespace lockstep::test
