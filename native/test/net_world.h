// A world for the guest kernel's network stack on the host: memory, virtual time, a seeded link between
// stacks. The stack's files are the kernel's own, compiled for the host; this gives what the kernel gives
// there.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "guest/net/net.h"

namespace lockstep::test {

using Frame = std::vector<uint8_t>;

struct NetStack {
  NetStack(const char* name, net_config config);
  ~NetStack();
  NetStack(const NetStack&) = delete;
  void enter();  // the C code's current stack is this one
  const char* name;
  struct ::net* state;
  std::function<void(Frame)> transmit;
  size_t room = SIZE_MAX;  // frames until the transmit queue is full
};

inline uint64_t world_now = 1'000'000'000;
inline std::mt19937_64 world_random{1};
inline int64_t world_pages = 0;  // page frames and objects in use, bytes
inline NetStack* world_current = nullptr;

struct LinkOptions {
  double loss = 0, duplicate = 0, reorder = 0;
  uint64_t delay_ns = 1'000'000, jitter_ns = 0;
  uint64_t bytes_per_s = 0, queue_bytes = 0;  // 0: any rate; what finds the queue full is lost
};

// Two stacks, 10.0.0.1 and 10.0.0.2, and a link with the given vices; time jumps from event to event.
struct NetWorld {
  explicit NetWorld(uint64_t seed, LinkOptions options = {});
  // Lets everything happen until `done`, or until nothing more can, or until the limit: false.
  bool run(const std::function<bool()>& done, uint64_t limit_ns = 3'600'000'000'000);
  bool step();
  NetStack a, b;
  LinkOptions options;
  std::mt19937_64 random;
  uint64_t frames = 0, overflowed = 0;

 private:
  void send(NetStack* to, Frame frame);
  uint64_t line_free_at_[2] = {0, 0};  // when the last that was queued has left, to a and to b
  std::multimap<uint64_t, std::pair<NetStack*, Frame>> flying_;
};

// Gives the frame of an IPv4 packet, whose header has no options, its length and its checksums.
void mend(Frame& frame);
net_config net_config_of(uint32_t ip, uint8_t last_of_mac);

}  // namespace lockstep::test
