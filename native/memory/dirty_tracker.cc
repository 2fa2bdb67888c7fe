#include "memory/dirty_tracker.h"

#include <sys/mman.h>

namespace lockstep {

DirtyTracker::DirtyTracker(KvmVm& vm, const KvmVcpu& vcpu, GuestMemory& memory, bool use_ring)
    : vm_(vm), memory_(memory) {
  if (use_ring)
    ring_ = vcpu.map_dirty_ring(kRingEntries);
  else
    bitmap_.resize((memory.pages() + 63) / 64);
}

DirtyTracker::~DirtyTracker() {
  if (ring_) munmap(ring_, kRingEntries * sizeof(kvm_dirty_gfn));
}

void DirtyTracker::harvest() {
  if (ring_)
    harvest_ring();
  else
    harvest_bitmap();
}

void DirtyTracker::harvest_ring() {
  int entries = 0;
  for (;;) {
    kvm_dirty_gfn& entry = ring_[head_ % kRingEntries];
    if (!(__atomic_load_n(&entry.flags, __ATOMIC_ACQUIRE) & KVM_DIRTY_GFN_F_DIRTY)) break;
    memory_.mark(entry.offset);
    __atomic_store_n(&entry.flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
    head_++;
    entries++;
  }
  if (entries > 0) reset_ring(entries);
}

// Linux 6.16 and later break off a reset when a signal is pending (SIGSTOP, a debugger, the freezer). What
// they return is then short, and the up to 64 pages they had gathered to write-protect are forgotten: what
// the guest writes there next would go unseen. Switching the log off and on protects every page anew.
void DirtyTracker::reset_ring(int entries) {
  int reset = kvm_ioctl(vm_.fd(), KVM_RESET_DIRTY_RINGS, nullptr, "KVM_RESET_DIRTY_RINGS");
  if (reset >= entries) return;
  while (reset < entries)
    reset += kvm_ioctl(vm_.fd(), KVM_RESET_DIRTY_RINGS, nullptr, "KVM_RESET_DIRTY_RINGS");
  vm_.set_slot(0, 0, memory_.bytes(), memory_.host(), false);
  vm_.set_slot(0, 0, memory_.bytes(), memory_.host(), true);
}

void DirtyTracker::harvest_bitmap() {
  kvm_dirty_log log{};
  log.slot = 0;
  log.dirty_bitmap = bitmap_.data();
  kvm_ioctl(vm_.fd(), KVM_GET_DIRTY_LOG, &log, "KVM_GET_DIRTY_LOG");
  for (size_t word = 0; word < bitmap_.size(); word++)
    for (uint64_t bits = bitmap_[word]; bits; bits &= bits - 1)
      memory_.mark(word * 64 + __builtin_ctzll(bits));
}

}  // namespace lockstep
