// Which pages the guest wrote: from KVM's dirty ring where there is one, else from its bitmap.
#pragma once

#include "kvm/uapi.h"

#include "kvm/vcpu.h"
#include "memory/guest_memory.h"

namespace lockstep {

class DirtyTracker {
 public:
  static constexpr uint32_t kRingEntries = 65536;
  // `use_ring`: KvmVm::enable_dirty_ring(kRingEntries) returned true before the vCPU was made.
  DirtyTracker(KvmVm& vm, const KvmVcpu& vcpu, GuestMemory& memory, bool use_ring);
  ~DirtyTracker();
  DirtyTracker(const DirtyTracker&) = delete;
  // Moves what KVM knows into memory.mark(). While the vCPU stands still.
  void harvest();

 private:
  void harvest_ring();
  void reset_ring(int entries);
  void harvest_bitmap();
  KvmVm& vm_;
  GuestMemory& memory_;
  kvm_dirty_gfn* ring_ = nullptr;
  uint32_t head_ = 0;
  std::vector<uint64_t> bitmap_;
};

}  // namespace lockstep
