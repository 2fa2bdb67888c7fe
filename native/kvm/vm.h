// One virtual machine's file descriptor: memory slots and the dirty ring's switch.
#pragma once

#include <cstdint>

#include "kvm/system.h"

namespace lockstep {

class KvmVm {
 public:
  explicit KvmVm(const KvmSystem& system);
  int fd() const { return fd_.get(); }
  const KvmSystem& system() const { return system_; }
  void set_slot(uint32_t slot, uint64_t gpa, uint64_t bytes, void* host, bool log_dirty);
  // Before any vCPU exists. False where the host has no dirty ring, or one that loses pages.
  bool enable_dirty_ring(uint32_t entries);
  // KVM keeps shadow page tables and does not see host writes into guest ones: after loading pages
  // into a machine that has run, this makes it forget them (a slot comes and goes).
  void flush_page_tables();

 private:
  const KvmSystem& system_;
  Fd fd_;
};

}  // namespace lockstep
