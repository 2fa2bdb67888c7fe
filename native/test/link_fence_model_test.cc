// Walks through every moment that fence_world.h can come to, and looks at each: that at most one side wins a
// generation, that all output which ever left is in the history of whoever goes on, and that nobody who could
// go on is stuck.
#include <xxhash.h>

#include <deque>
#include <type_traits>
#include <unordered_set>

#include "test/check.h"
#include "test/fence_world.h"

namespace lockstep::test {
namespace {

static_assert(std::is_trivially_copyable_v<World>);

// What may go wrong in one walk.
struct Troubles {
  bool link = true;     // is cut, sides suspect each other, and one is handed over
  bool crashes = true;  // and processes in the place of those that are gone
  bool arbiter = true;  // requests and answers that are lost or late
  uint8_t events = kEventsMax;
  uint8_t restarts = 1;
};

class Walk {
 public:
  explicit Walk(Troubles troubles) : troubles_(troubles) {}
  virtual ~Walk() = default;

  void explore(World start = World::at_start()) {
    visit(start);
    while (!todo_.empty() && !broken) {
      at_ = todo_.front();
      todo_.pop_front();
      for (int s : {0, 1}) {
        if (at_.sides[s].alive) {
          fence_steps(s);
          machine_steps(s);
          ask_arbiter(s);
        }
        link_steps(s);
        process_steps(s);
      }
      arbiter_steps();
    }
  }

  size_t states() const { return seen_.size(); }
  const char* broken = nullptr;
  size_t takeovers = 0, alone = 0, again = 0;

 protected:
  // Looks at a moment that was not seen before; what is wrong with it, or null.
  virtual const char* look(const World& world) = 0;

 private:
  // Hashed by what it means: bytes between members mean nothing, so a value is built from zeroes only.
  void visit(World world) {
    world.check();
    if (world.broken) {
      broken = world.broken;
      return;
    }
    if (!seen_.insert(fingerprint(world)).second) return;
    if (const char* wrong = look(world)) broken = wrong;
    for (int s : {0, 1}) {
      if (world.sides[s].fence_phase() != FencePhase::kWon) continue;
      (s == 0 ? alone : takeovers)++;
      again += world.restarts > 0 && world.sides[1 - s].joined && world.sides[1 - s].process > 0;
    }
    todo_.push_back(world);
  }

  // 64 bits of hash: among ten million states two meet by chance once in three hundred thousand runs.
  static uint64_t fingerprint(const World& world) {
    std::array<uint8_t, 128> bytes{};
    size_t at = 0;
    auto put = [&](auto value) { bytes[at++] = static_cast<uint8_t>(value); };
    auto put_history = [&](const History& history) {
      put(history.length);
      for (uint8_t by : history.made_by) put(by);
    };
    for (const Side& s : world.sides) {
      put(s.phase), put(s.timer), put(s.generation), put(s.process);
      put(s.alive | s.live << 1 | s.link_open << 2 | s.joined << 3 | s.acknowledging << 4 |
          s.peer_ready << 5 | s.free << 6 | s.given_up << 7);
      put(s.waits_for_arm | s.waits_for_claim << 1), put(s.acked), put(s.released), put(s.free_mark);
      put_history(s.history);
      put(s.inbox.count);
      for (uint8_t i = 0; i < s.inbox.count; i++) put(s.inbox.packets[i]);
    }
    for (size_t g = 2; g <= kGenerationsMax; g++)
      put(world.winner[g]), put(world.asked[g]), put(world.won[g]);
    put(world.cut), put(world.restarts);
    put_history(world.left);
    return XXH3_64bits(bytes.data(), at);
  }

  template <typename Change>
  void then(Change change) {
    World next = at_;
    change(next);
    visit(next);
  }

  void fence_steps(int s) {
    const Side& side = at_.sides[s];
    const bool peer_gone = !at_.sides[1 - s].alive || !at_.sides[1 - s].link_open || at_.cut;
    if (side.link_open && troubles_.link) then([&](World& w) { w.step(s, FenceEvent::kSilence); });
    // What had arrived may be read before the end is seen, or be lost with it.
    if (side.link_open && peer_gone) then([&](World& w) { w.step(s, FenceEvent::kLinkLost); });
    if (side.timer) then([&](World& w) { w.step(s, FenceEvent::kTimer); });
    if (at_.may_arm(s)) then([&](World& w) { w.step(s, FenceEvent::kShadowReady); });
    const FencePhase phase = side.fence_phase();
    const bool follows = phase == FencePhase::kFollowing || phase == FencePhase::kArmed;
    if (side.joined && !side.live && (follows || side.claims()) && troubles_.crashes) {
      then([&](World& w) {
        w.send(1 - s, kDivergedPacket);
        w.sides[s].acknowledging = false;
        w.step(s, FenceEvent::kDiverged);
      });
    }
    // Somebody wants the other side to go on, and this one makes no more events.
    if (phase == FencePhase::kProtected && side.live && troubles_.link)
      then([&](World& w) { w.step(s, FenceEvent::kHandOver); });
    // It gives up a shadow that is there and hears it.
    if (phase == FencePhase::kProtected && side.live && troubles_.link)
      then([&](World& w) { w.step(s, FenceEvent::kTooLate); });
    // It ends on purpose, once all of its output has left. Who is alone has nobody to tell.
    const bool may_end = phase == FencePhase::kSolo || phase == FencePhase::kProtected;
    if (may_end && side.released == side.history.length && side.history.length == troubles_.events) {
      then([&](World& w) {
        w.send(1 - s, kEndedPacket);
        w.step(s, FenceEvent::kEnded);
      });
    }
  }

  void machine_steps(int s) {
    const Side& side = at_.sides[s];
    const bool ended =
        side.fence_phase() == FencePhase::kEnded || side.fence_phase() == FencePhase::kHandingOver;
    // One that waits for the arbiter, or has lost and does not know what to do yet, computes on.
    if (side.live && !ended && !side.given_up && side.history.length < troubles_.events)
      then([&](World& w) { w.make_event(s); });
    if (at_.may_leave(s) > side.released) then([&](World& w) { w.release(s); });
  }

  void ask_arbiter(int s) {
    const Side& side = at_.sides[s];
    if (side.waits_for_arm) {
      then([&](World& w) {
        w.sides[s].waits_for_arm = false;
        w.step(s, FenceEvent::kArmRecorded);
      });
    }
    // An answer that came and was not looked at for long is one that was asked for twice: it is the same.
    const uint8_t winner = side.waits_for_claim ? at_.winner[side.generation + 1] : uint8_t{0};
    if (winner) {
      then([&](World& w) {
        w.sides[s].waits_for_claim = false;
        w.step(s, winner == 1 + w.who(s) ? FenceEvent::kClaimWon : FenceEvent::kClaimLost);
      });
    }
    if (!troubles_.arbiter || !(side.waits_for_arm || side.waits_for_claim)) return;
    then([&](World& w) {
      const bool claims = w.sides[s].waits_for_claim;
      w.sides[s].waits_for_arm = w.sides[s].waits_for_claim = false;
      w.step(s, claims ? FenceEvent::kClaimUnreachable : FenceEvent::kArmUnreachable);
    });
  }

  // A request arrives, whether anybody waits for it or not.
  void arbiter_steps() {
    for (uint8_t g = 2; g <= kGenerationsMax; g++) {
      for (uint8_t who = 0; who < 4; who++) {
        if (!(at_.asked[g] & 1 << who)) continue;
        then([&](World& w) {
          w.winner[g] = uint8_t(1 + who);
          w.asked[g] = 0;  // whatever else arrives changes nothing any more
        });
      }
    }
    // It restarts, with what it had decided, and without what was on its way.
    if (troubles_.arbiter && (at_.asked[2] | at_.asked[3] | at_.asked[4]))
      then([&](World& w) { w.asked = {}; });
  }

  void link_steps(int s) {
    if (at_.hears(s) && at_.sides[s].inbox.count) then([&](World& w) { w.receive(s); });
    if (at_.cut && at_.sides[s].inbox.count) then([&](World& w) { w.sides[s].inbox.lose_last(); });
    if (s == 0 && !at_.cut && troubles_.link) then([&](World& w) { w.cut = true; });
  }

  void process_steps(int s) {
    const Side &side = at_.sides[s], &peer = at_.sides[1 - s];
    if (side.alive && troubles_.crashes) then([&](World& w) { w.sides[s].alive = false; });
    const bool over = !side.alive || side.given_up;
    if (over && troubles_.crashes && side.process == 0 && at_.restarts < troubles_.restarts) {
      then([&](World& w) {
        w.sides[s] = Side{};
        w.sides[s].phase = static_cast<uint8_t>(FencePhase::kFollowing);
        w.sides[s].process = 1;
        w.restarts++;
      });
    }
    // Only who speaks freely takes a shadow.
    if (side.alive && !side.joined && !side.live && peer.alive && peer.live && peer.free && !peer.link_open)
      then([&](World& w) { w.join(s); });
  }

  const Troubles troubles_;
  World at_;
  std::deque<World> todo_;
  std::unordered_set<uint64_t> seen_;
};

// From here on the peer is gone and the arbiter answers. Null when `s` goes on, or rightly does not.
const char* gets_on_alone(World w, int s) {
  w.sides[1 - s].alive = false;
  Side& side = w.sides[s];
  const bool could = side.fence_phase() == FencePhase::kProtected ||
                     side.fence_phase() == FencePhase::kArmed || side.claims();
  const uint8_t winner = w.winner[side.generation + 1];
  const bool lost = winner && winner != 1 + w.who(s);
  for (int steps = 0; steps < 50; steps++) {
    if (side.link_open) {
      w.step(s, FenceEvent::kLinkLost);
    } else if (side.waits_for_arm) {
      side.waits_for_arm = false;
      w.step(s, FenceEvent::kArmRecorded);
    } else if (side.waits_for_claim) {
      uint8_t& decided = w.winner[side.generation + 1];
      if (!decided) decided = uint8_t(1 + w.who(s));
      side.waits_for_claim = false;
      w.step(s, decided == 1 + w.who(s) ? FenceEvent::kClaimWon : FenceEvent::kClaimLost);
    } else if (side.timer) {
      w.step(s, FenceEvent::kTimer);
    }
  }
  if (w.may_leave(s) > side.released) w.release(s);
  w.check();
  if (w.broken) return w.broken;
  if (could && lost && side.free) return "one goes on who has lost";
  if (could && !lost && !side.free) return "one that reaches the arbiter does not go on alone";
  if (side.live && side.free && side.released != side.history.length) return "it goes on, and is not heard";
  return nullptr;
}

class Everything : public Walk {
 public:
  using Walk::Walk;

 protected:
  const char* look(const World& world) override {
    for (int s : {0, 1}) {
      if (!world.sides[s].alive) continue;
      if (const char* wrong = gets_on_alone(world, s)) return wrong;
    }
    return nullptr;
  }
};

// A pair that is together, and no arbiter.
class Together : public Walk {
 public:
  using Walk::Walk;

 protected:
  const char* look(const World& world) override {
    for (const Side& side : world.sides) {
      const FencePhase phase = side.fence_phase();
      if (phase != FencePhase::kProtected && phase != FencePhase::kArmed && phase != FencePhase::kEnded)
        return "the arbiter's loss changed something";
    }
    return released_after_all(world) ? nullptr : "output waits for the arbiter";
  }

 private:
  static bool released_after_all(World w) {
    for (int steps = 0; steps < 50; steps++) {
      for (int s : {0, 1})
        if (w.sides[s].inbox.count) w.receive(s);
      if (w.may_leave(0) > w.sides[0].released) w.release(0);
    }
    return w.sides[0].released == w.sides[0].history.length;
  }
};

void check_walk(const char* what, const Walk& walk) {
  printf(
      "# %s: %zu states, %zu with the shadow gone live, %zu with the primary alone, %zu beside a new "
      "process\n",
      what, walk.states(), walk.takeovers, walk.alone, walk.again);
  if (walk.broken) printf("# %s\n", walk.broken);
  CHECK(!walk.broken);
}

TEST(every_order_of_events_leaves_one_winner_who_has_all_that_left) {
  Everything walk({.restarts = 0});
  walk.explore();
  check_walk("no process started anew", walk);
  CHECK(walk.takeovers > 1000 && walk.alone > 1000);
}

TEST(a_process_started_anew_never_has_its_old_role) {
  Everything walk({.events = 3, .restarts = 2});
  walk.explore();
  check_walk("processes started anew", walk);
  CHECK(walk.again > 1000);
}

TEST(while_the_pair_is_together_the_loss_of_the_arbiter_changes_nothing) {
  World armed = World::at_start();
  armed.join(1);
  while (armed.sides[0].inbox.count) armed.receive(0);
  armed.step(0, FenceEvent::kShadowReady);
  armed.sides[0].waits_for_arm = false;
  armed.step(0, FenceEvent::kArmRecorded);
  armed.receive(1);
  Together walk({.link = false, .crashes = false});
  walk.explore(armed);
  check_walk("together", walk);
  CHECK(walk.states() > 20);
}

}  // namespace
}  // namespace lockstep::test
