// A model of everything around the fence: two sides as a pair carries them out (pair_loop.cc), the link
// between them, and the arbiter. One value is one moment; native/test/link_fence_model_test.cc walks through
// all of them.
//
// What can happen to whom: the link is cut and loses what is on its way; a side suspects its peer, rightly or
// not; a side crashes, and the process started in its place knows nothing; requests to the arbiter are lost,
// or arrive at any later time, in any order, also when nobody waits for them or lives any more; answers are
// lost; the arbiter restarts. A pause needs no step: it is an order in which somebody does nothing for long.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>

#include "link/fence.h"

namespace lockstep::test {

constexpr uint8_t kEventsMax = 5;       // that the machine logs, each with one output
constexpr uint8_t kGenerationsMax = 4;  // with each process started anew at most one more
constexpr uint8_t kPacketsMax = 16;

enum PacketKind : uint8_t {
  kFramePacket = 0x00,
  kAckPacket = 0x40,
  kArmedPacket = 0x80,
  kOtherPacket = 0xc0
};
constexpr uint8_t kReadyPacket = kOtherPacket + 1, kEndedPacket = kOtherPacket + 2,
                  kDivergedPacket = kOtherPacket + 3, kHandOverPacket = kOtherPacket + 4;

// What happened, event by event: who made it, in which generation. Two histories agree as far as these do.
struct History {
  uint8_t length = 0;
  std::array<uint8_t, kEventsMax> made_by{};
  void append(uint8_t who) {
    if (length < kEventsMax) made_by[length++] = who;
  }
  bool begins_with(const History& other, uint8_t count) const {
    return count <= length &&
           std::equal(other.made_by.begin(), other.made_by.begin() + count, made_by.begin());
  }
};

struct Packets {
  uint8_t count = 0;
  std::array<uint8_t, kPacketsMax> packets{};
  void push(uint8_t packet) {
    if (count == kPacketsMax) abort();
    packets[count++] = packet;
  }
  uint8_t shift() {
    const uint8_t first = packets[0];
    std::copy(packets.begin() + 1, packets.end(), packets.begin());
    packets[--count] = 0;
    return first;
  }
  void lose_last() { packets[--count] = 0; }
};

struct Side {
  uint8_t phase = 0, timer = 0, generation = 0;
  bool alive = true, live = false, link_open = false, joined = false;
  bool acknowledging = true, peer_ready = false;
  bool waits_for_arm = false, waits_for_claim = false;
  bool free = false, given_up = false;
  uint8_t process = 0;  // 1: started in the place of one that is gone
  uint8_t acked = 0, released = 0, free_mark = 0;
  History history;  // what it made, or received
  Packets inbox;    // on its way here

  FencePhase fence_phase() const { return static_cast<FencePhase>(phase); }
  bool claims() const {
    return fence_phase() == FencePhase::kClaiming || fence_phase() == FencePhase::kRetrying;
  }
};

struct World {
  std::array<Side, 2> sides;
  std::array<uint8_t, kGenerationsMax + 1> winner{};  // the arbiter's: 1 + who, 0 nobody yet
  std::array<uint8_t, kGenerationsMax + 1> asked{};   // requests that may arrive yet, a bit for each who
  std::array<uint8_t, kGenerationsMax + 1> won{};     // who was told that it won, a bit for each
  bool cut = false;
  uint8_t restarts = 0;
  History left;  // all output that ever left either side
  const char* broken = nullptr;

  static World at_start() {
    World w;
    Side& primary = w.sides[0];
    primary.phase = static_cast<uint8_t>(FencePhase::kSolo);
    primary.generation = w.sides[1].generation = 1;
    primary.live = primary.free = true;
    w.sides[1].phase = static_cast<uint8_t>(FencePhase::kFollowing);
    return w;
  }

  uint8_t who(int s) const { return static_cast<uint8_t>(s * 2 + sides[s].process); }
  bool hears(int s) const { return sides[s].alive && sides[s].link_open; }

  void send(int to, uint8_t packet) {
    if (!cut && sides[1 - to].link_open && sides[to].link_open) sides[to].inbox.push(packet);
  }

  // The fence's step, and its actions carried out as PairImpl::fence does.
  void step(int s, FenceEvent event) {
    Side& side = sides[s];
    const FencePhase before = side.fence_phase();
    const auto [next, actions] = fence_step({side.fence_phase(), side.timer != 0, side.generation, 0}, event);
    side.phase = static_cast<uint8_t>(next.phase);
    side.timer = next.timer;
    side.generation = static_cast<uint8_t>(next.generation);
    if (actions & kHoldOutput) side.free = false;
    if (actions & kStopAcknowledging) side.acknowledging = false;
    if (actions & kCloseLink) hang_up(s);
    if (actions & kGiveUp) {
      side.given_up = true;
      side.free = false;
      const bool must = event == FenceEvent::kClaimLost || event == FenceEvent::kDiverged;
      if (!must && before != FencePhase::kFollowing) broken = "one gives up that has not lost";
    }
    if (actions & kReleaseAll) release_all(s);
    if (actions & kSendArmed) send(1 - s, static_cast<uint8_t>(kArmedPacket + side.generation + 1));
    if (actions & kSendHandOver) send(1 - s, kHandOverPacket);
    if (actions & kArm) side.waits_for_arm = true;
    if (actions & kClaim) {
      side.waits_for_claim = true;
      if (winner[side.generation + 1] == 0) asked[side.generation + 1] |= uint8_t(1 << who(s));
    }
  }

  void hang_up(int s) {
    sides[s].link_open = sides[s].peer_ready = false;
    sides[s].inbox = {};
  }

  void release_all(int s) {
    Side& side = sides[s];
    side.free = side.live = true;
    if (side.fence_phase() != FencePhase::kWon) return;
    won[side.generation] |= uint8_t(1 << who(s));
    if (won[side.generation] & (won[side.generation] - 1)) broken = "one generation, two winners";
  }

  // A fresh process learns the machine and its log so far from whoever is live.
  void join(int s) {
    Side &side = sides[s], &peer = sides[1 - s];
    side.link_open = peer.link_open = side.joined = true;
    side.inbox = peer.inbox = {};
    side.generation = peer.generation;
    side.history = peer.history;
    peer.acked = 0;
    cut = false;
    send(1 - s, static_cast<uint8_t>(kAckPacket + side.history.length));
    send(1 - s, kReadyPacket);
  }

  void receive(int s) {
    Side& side = sides[s];
    const uint8_t packet = side.inbox.shift();
    const uint8_t value = packet & 0x3f;
    switch (packet & 0xc0) {
      case kFramePacket:
        if (!side.acknowledging) return;
        side.history.append(value);
        send(1 - s, static_cast<uint8_t>(kAckPacket + side.history.length));
        return;
      case kAckPacket: side.acked = std::max(side.acked, value); return;
      case kArmedPacket:
        if (value == side.generation + 1) step(s, FenceEvent::kArmedReceived);
        return;
      default: break;
    }
    if (packet == kReadyPacket) side.peer_ready = true;
    if (packet == kEndedPacket) step(s, FenceEvent::kEnded);
    if (packet == kDivergedPacket) step(s, FenceEvent::kLinkLost);
    if (packet == kHandOverPacket) step(s, FenceEvent::kHandOverReceived);
  }

  void make_event(int s) {
    Side& side = sides[s];
    const auto by = static_cast<uint8_t>(side.generation * 4 + who(s));
    side.history.append(by);
    if (side.link_open) send(1 - s, static_cast<uint8_t>(kFramePacket + by));
  }

  // How much may leave this side: all, or what its shadow has.
  uint8_t may_leave(int s) const {
    const Side& side = sides[s];
    if (!side.live) return 0;
    return side.free ? side.history.length : std::min(side.acked, side.history.length);
  }

  void release(int s) {
    Side& side = sides[s];
    side.released = may_leave(s);
    if (side.free) side.free_mark = std::max(side.free_mark, side.released);
    const uint8_t common = std::min(side.released, left.length);
    if (!side.history.begins_with(left, common)) broken = "two outputs that do not belong together";
    if (side.released > left.length) {
      left = side.history;
      left.length = side.released;
      std::fill(left.made_by.begin() + left.length, left.made_by.end(), 0);
    }
  }

  // As a pair decides it (PairImpl::try_to_arm).
  bool may_arm(int s) const {
    const Side& side = sides[s];
    return side.live && side.free && side.peer_ready && side.acked >= side.free_mark &&
           side.acked >= side.released;
  }

  void check() {
    int speakers = 0;
    for (const Side& side : sides) {
      if (!side.alive || !side.live || !side.free) continue;
      speakers++;
      // Whoever goes on must know all that was ever said.
      if (!side.history.begins_with(left, left.length)) broken = "one goes on who lacks what has left";
    }
    if (speakers > 1) broken = "two sides speak freely";
  }
};

}  // namespace lockstep::test
