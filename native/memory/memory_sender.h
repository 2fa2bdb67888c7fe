// Sends guest memory while the guest runs: all of it, then in rounds what was written meanwhile, and the rest
// when the guest stands still.
#pragma once

#include "log/event.h"
#include "memory/guest_memory.h"

namespace lockstep {

class MemorySender {
 public:
  explicit MemorySender(GuestMemory& memory) : memory_(memory) {}
  ~MemorySender() { end(); }

  // ---- any one thread, while the guest may run
  void begin();  // all of memory is yet to be sent
  // The next piece (memory/page_pieces.h) of this round; false: the round is over.
  bool next(Bytes* piece);

  // ---- vCPU thread, between rounds, what KVM knows of dirty pages harvested
  size_t changed() const { return memory_.changed(); }  // pages that were written since they were sent
  void next_round();
  std::vector<Bytes> rest();  // all of these
  void end();

  uint64_t pages_sent() const { return pages_sent_; }

 private:
  GuestMemory& memory_;
  std::vector<uint64_t> round_;  // ascending
  size_t sent_ = 0;              // of them
  uint64_t pages_sent_ = 0;
};

}  // namespace lockstep
