// A split virtqueue, the device's side (virtio 1.2, 2.7). Descriptors and rings lie in guest memory and are
// taken for hostile: every field is read once, every range is checked, no chain is followed further than the
// table is long. A driver that breaks the rules breaks its queue, and nothing else.
//
// Not offered, and so an error: indirect descriptors, event indices.
#pragma once

#include <optional>

#include "device/state_stream.h"
#include "memory/guest_memory.h"

namespace lockstep {

struct VirtqueueChain {
  struct Part {
    uint64_t gpa = 0;
    uint32_t bytes = 0;
  };
  uint16_t head = 0;
  std::vector<Part> readable, writable;  // what the device may read, then what it may write
  uint64_t readable_bytes = 0, writable_bytes = 0;
};

class Virtqueue {
 public:
  static constexpr uint16_t kSizeMax = 256;

  // What the driver sets up through the transport, before it makes the queue ready.
  uint16_t size = kSizeMax;
  uint64_t descriptors = 0, available_ring = 0, used_ring = 0;

  bool ready() const { return ready_; }
  bool broken() const { return broken_; }
  // Starts from empty rings. False, and broken, when they do not lie in memory as they must.
  bool enable(const GuestMemory& memory);
  void disable() { ready_ = false; }
  void reset() { *this = Virtqueue(); }

  // Chains that the driver has put there and that were not taken yet.
  uint16_t waiting(const GuestMemory& memory);
  // The next one; none when there is none or the queue broke over it.
  std::optional<VirtqueueChain> take(const GuestMemory& memory);
  // Gives a chain back, `bytes` of its writable part written.
  void give_back(GuestMemory& memory, const VirtqueueChain& chain, uint32_t bytes);
  // The driver's NO_INTERRUPT is not set.
  bool wants_interrupt(const GuestMemory& memory) const;
  void break_off() { broken_ = true; }

  void save(StateWriter& out) const;
  void restore(StateReader& in);

 private:
  bool follow(const GuestMemory& memory, VirtqueueChain* chain) const;
  bool ready_ = false, broken_ = false;
  uint16_t taken_ = 0, given_back_ = 0;  // both count on past the ring's size, as its indices do
};

}  // namespace lockstep
