// The one vCPU: running, kicking, and its architectural state.
#pragma once

#include <pthread.h>
#include "kvm/uapi.h"

#include <array>
#include <atomic>
#include <mutex>
#include <span>
#include <vector>

#include "kvm/exit.h"
#include "kvm/vm.h"
#include "memory/guest_memory.h"

namespace lockstep {

// All that a vCPU holds and a digest or a copy of the machine needs.
struct VcpuState {
  kvm_regs regs{};
  kvm_sregs sregs{};
  kvm_xcrs xcrs{};
  std::array<uint8_t, 4096> xsave{};  // struct kvm_xsave
  kvm_debugregs debug{};
  kvm_vcpu_events events{};
  kvm_mp_state mp{};
  std::vector<uint64_t> msrs;  // in the order of kStateMsrs
};

// As they stand in a checkpoint: KVM's own structures, which are its ABI. decode throws Failure
// ERR_LOCKSTEP_LOG_DAMAGED when the bytes are no such state.
std::vector<uint8_t> encode_vcpu_state(const VcpuState& state);
VcpuState decode_vcpu_state(std::span<const uint8_t> bytes);

class KvmVcpu {
 public:
  static constexpr size_t kStateMsrCount = 10;
  explicit KvmVcpu(const KvmVm& vm);
  ~KvmVcpu();
  KvmVcpu(const KvmVcpu&) = delete;
  int fd() const { return fd_.get(); }

  // Called once by the thread that will run it: kicks go to that thread. Blocks every signal of the
  // thread; the kick is open only inside KVM_RUN (KVM_SET_SIGNAL_MASK), so no handler is needed.
  void adopt_thread();
  void release_thread();
  Exit run();
  // Any thread: the next or current run() returns InterruptedExit soon. Many kicks before that are one: each
  // signal that waits counts against a limit that all processes of the user share (RLIMIT_SIGPENDING).
  void kick();
  // Finishes a pending port or MMIO access, so that registers can be read, written or hashed. When the rest
  // of the instruction makes another access, that is what the next run() returns.
  void complete_access();

  // complete_access() found one: what the vCPU stands at is not all in its state.
  bool exit_waits() const { return next_exit_waits_; }
  // After set_state() of a vCPU that has not run: what is known of it from its last exit is true now.
  void refresh();

  // General registers as of the last exit; marks them for reload when `changed` is called.
  kvm_regs& regs();
  void regs_changed();
  bool interrupts_ready() const {
    return !next_exit_waits_ && run_->ready_for_interrupt_injection && run_->if_flag;
  }
  bool interrupt_flag() const { return run_->if_flag; }
  void inject(uint8_t vector);
  // The guest stands between two instructions with nothing half delivered: as of `state`, which is this
  // vCPU's, an interrupt may enter.
  bool can_interrupt(const VcpuState& state, const GuestMemory& memory) const;

  VcpuState state() const;
  void set_state(const VcpuState& state);
  kvm_sregs sregs() const;
  void set_sregs(const kvm_sregs& sregs);
  void set_regs(const kvm_regs& regs);
  void set_xcr0(uint64_t value);
  void set_msr(uint32_t index, uint64_t value);
  void set_cpuid(const std::vector<kvm_cpuid_entry2>& entries);
  kvm_dirty_gfn* map_dirty_ring(uint32_t entries) const;

 private:
  bool stands_behind_int3(const VcpuState& state, const GuestMemory& memory) const;
  Fd fd_;
  kvm_run* run_ = nullptr;
  size_t run_bytes_ = 0;
  bool sync_regs_ = false;
  bool access_pending_ = false;
  bool next_exit_waits_ = false;  // in run_, found by complete_access()
  bool regs_fresh_ = false;
  kvm_regs regs_{};
  std::mutex thread_mutex_;
  std::atomic<bool> kicked_{false};  // a kick is on its way
  bool has_thread_ = false;
  pthread_t thread_{};
};

}  // namespace lockstep
