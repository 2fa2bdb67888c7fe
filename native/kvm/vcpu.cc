#include "kvm/vcpu.h"

#include <cpuid.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>

namespace lockstep {

namespace {

// SYSENTER, SYSCALL, segment bases, PAT, EFER. Not the TSC: nothing in the guest may read it.
constexpr uint32_t kStateMsrs[] = {0xc0000080, 0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084,
                                   0xc0000102, 0x174,      0x175,      0x176,      0x277};
static_assert(std::size(kStateMsrs) == KvmVcpu::kStateMsrCount);

int kick_signal() { return SIGRTMAX - 2; }

// A task register that is in use is busy, and VT-x enters no guest where it is not. QEMU, where it emulates
// SVM itself (no KVM below), honours the I/O bitmap of an *available* TSS only, and every OUT of the guest
// would end in #GP. So the type is translated here, and everybody above sees a busy one.
constexpr uint8_t kTssAvailable = 9, kTssBusy = 11;

bool svm_is_emulated() {
  static const bool emulated = [] {
    uint32_t eax, name[3];
    __cpuid(0x40000000, eax, name[0], name[1], name[2]);
    return std::memcmp(name, "TCGTCGTCGTCG", sizeof name) == 0;
  }();
  return emulated;
}

void get_sregs(int fd, kvm_sregs* sregs) {
  kvm_ioctl(fd, KVM_GET_SREGS, sregs, "KVM_GET_SREGS");
  if (svm_is_emulated() && sregs->tr.type == kTssAvailable) sregs->tr.type = kTssBusy;
}

void put_sregs(int fd, kvm_sregs sregs) {
  if (svm_is_emulated() && sregs.tr.type == kTssBusy) sregs.tr.type = kTssAvailable;
  kvm_ioctl(fd, KVM_SET_SREGS, &sregs, "KVM_SET_SREGS");
}

}  // namespace

KvmVcpu::KvmVcpu(const KvmVm& vm) {
  if (!vm.system().extension(KVM_CAP_IMMEDIATE_EXIT))
    throw Failure("ERR_LOCKSTEP_KVM_VERSION", "this host's KVM has no immediate_exit",
                  "use a Linux kernel of 4.13 or later");
  fd_ = Fd(kvm_ioctl(vm.fd(), KVM_CREATE_VCPU, nullptr, "KVM_CREATE_VCPU"));
  run_bytes_ = vm.system().run_bytes();
  void* map = mmap(nullptr, run_bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, fd(), 0);
  if (map == MAP_FAILED) throw_system("ERR_LOCKSTEP_KVM", "mmap", "the vCPU's shared page");
  run_ = static_cast<kvm_run*>(map);
  sync_regs_ = vm.system().extension(KVM_CAP_SYNC_REGS) & KVM_SYNC_X86_REGS;
  if (sync_regs_) run_->kvm_valid_regs = KVM_SYNC_X86_REGS;
}

KvmVcpu::~KvmVcpu() {
  if (run_) munmap(run_, run_bytes_);
}

void KvmVcpu::adopt_thread() {
  sigset_t all, inside;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
  inside = all;
  sigdelset(&inside, kick_signal());
  // The kernel's sigset is 8 bytes; glibc's is longer and begins with the same bits.
  struct {
    uint32_t length = 8;  // struct kvm_signal_mask
    uint8_t bits[8];
  } mask;
  std::memcpy(mask.bits, &inside, 8);
  kvm_ioctl(fd(), KVM_SET_SIGNAL_MASK, &mask, "KVM_SET_SIGNAL_MASK");
  std::lock_guard lock(thread_mutex_);
  thread_ = pthread_self();
  kicked_ = false;
  has_thread_ = true;
}

void KvmVcpu::release_thread() {
  std::lock_guard lock(thread_mutex_);
  has_thread_ = false;
}

void KvmVcpu::kick() {
  std::lock_guard lock(thread_mutex_);
  if (has_thread_ && !kicked_.exchange(true)) pthread_kill(thread_, kick_signal());
}

Exit KvmVcpu::run() {
  regs_fresh_ = false;
  access_pending_ = false;
  if (!std::exchange(next_exit_waits_, false) && ioctl(fd(), KVM_RUN, nullptr) < 0) {
    int error = errno;
    if (error == EINTR || error == EAGAIN) {
      // The kick is still pending on this thread: take it, or the next run would return at once.
      sigset_t kick;
      sigemptyset(&kick);
      sigaddset(&kick, kick_signal());
      timespec none{0, 0};
      while (sigtimedwait(&kick, nullptr, &none) > 0) {
      }
      // Last: whoever kicks before is answered by this very return, and finds what it wants looked at.
      kicked_ = false;
      return InterruptedExit{};
    }
    throw_system("ERR_LOCKSTEP_KVM", "KVM_RUN", "KVM_RUN", "run `lockstep doctor`", error);
  }
  uint8_t* base = reinterpret_cast<uint8_t*>(run_);
  switch (run_->exit_reason) {
    case KVM_EXIT_IO:
      access_pending_ = true;
      return PortExit{run_->io.port, run_->io.size, run_->io.count, run_->io.direction == KVM_EXIT_IO_OUT,
                      base + run_->io.data_offset};
    case KVM_EXIT_MMIO:
      access_pending_ = true;
      return MmioExit{run_->mmio.phys_addr, static_cast<uint8_t>(run_->mmio.len), run_->mmio.is_write != 0,
                      run_->mmio.data};
    case KVM_EXIT_HLT: return HaltExit{};
    case KVM_EXIT_SHUTDOWN: return ShutdownExit{};
    case KVM_EXIT_INTR: return InterruptedExit{};
    case KVM_EXIT_DIRTY_RING_FULL: return DirtyRingFullExit{};
    case KVM_EXIT_IRQ_WINDOW_OPEN: return InterruptWindowExit{};
    case KVM_EXIT_INTERNAL_ERROR: {
      EmulationExit exit{run_->internal.suberror, 0, {}};
      if (exit.suberror == KVM_INTERNAL_ERROR_EMULATION && run_->internal.ndata >= 3 &&
          (run_->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)) {
        exit.length = std::min<uint8_t>(run_->emulation_failure.insn_size, sizeof exit.bytes);
        std::memcpy(exit.bytes, run_->emulation_failure.insn_bytes, sizeof exit.bytes);
      }
      return exit;
    }
    default: return UnknownExit{"KVM exit reason " + std::to_string(run_->exit_reason)};
  }
}

void KvmVcpu::complete_access() {
  if (!access_pending_) return;
  access_pending_ = false;
  regs_fresh_ = false;
  run_->immediate_exit = 1;
  int result = ioctl(fd(), KVM_RUN, nullptr);
  run_->immediate_exit = 0;
  // An instruction that reads and then writes memory-mapped registers, a string of them, or a wide one.
  if (result == 0)
    next_exit_waits_ = true;
  else if (errno != EINTR)
    throw_system("ERR_LOCKSTEP_KVM", "KVM_RUN", "completing an access");
}

void KvmVcpu::refresh() {
  access_pending_ = true;
  complete_access();
}

kvm_regs& KvmVcpu::regs() {
  if (sync_regs_) return run_->s.regs.regs;
  if (!regs_fresh_) {
    kvm_ioctl(fd(), KVM_GET_REGS, &regs_, "KVM_GET_REGS");
    regs_fresh_ = true;
  }
  return regs_;
}

void KvmVcpu::regs_changed() {
  if (sync_regs_) {
    run_->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
    return;
  }
  kvm_ioctl(fd(), KVM_SET_REGS, &regs_, "KVM_SET_REGS");
}

void KvmVcpu::inject(uint8_t vector) {
  kvm_interrupt interrupt{vector};
  kvm_ioctl(fd(), KVM_INTERRUPT, &interrupt, "KVM_INTERRUPT");
}

kvm_sregs KvmVcpu::sregs() const {
  kvm_sregs sregs{};
  get_sregs(fd(), &sregs);
  return sregs;
}

void KvmVcpu::set_sregs(const kvm_sregs& sregs) { put_sregs(fd(), sregs); }

void KvmVcpu::set_regs(const kvm_regs& regs) {
  kvm_regs copy = regs;
  kvm_ioctl(fd(), KVM_SET_REGS, &copy, "KVM_SET_REGS");
  if (sync_regs_) run_->s.regs.regs = regs;
  regs_fresh_ = false;
}

void KvmVcpu::set_xcr0(uint64_t value) {
  kvm_xcrs xcrs{};
  xcrs.nr_xcrs = 1;
  xcrs.xcrs[0].value = value;
  kvm_ioctl(fd(), KVM_SET_XCRS, &xcrs, "KVM_SET_XCRS");
}

namespace {
struct MsrBuffer {
  struct {
    uint32_t nmsrs, pad;
  } header{};  // struct kvm_msrs
  kvm_msr_entry entries[std::size(kStateMsrs)]{};
};
}  // namespace

void KvmVcpu::set_msr(uint32_t index, uint64_t value) {
  MsrBuffer buffer;
  buffer.header.nmsrs = 1;
  buffer.entries[0] = {index, 0, value};
  if (kvm_ioctl(fd(), KVM_SET_MSRS, &buffer, "KVM_SET_MSRS") != 1)
    throw Failure("ERR_LOCKSTEP_KVM", "KVM refused MSR " + std::to_string(index));
}

void KvmVcpu::set_cpuid(const std::vector<kvm_cpuid_entry2>& entries) {
  std::vector<uint8_t> buffer(sizeof(kvm_cpuid2) + entries.size() * sizeof(kvm_cpuid_entry2));
  auto* header = reinterpret_cast<kvm_cpuid2*>(buffer.data());
  header->nent = entries.size();
  std::copy(entries.begin(), entries.end(), header->entries);
  kvm_ioctl(fd(), KVM_SET_CPUID2, header, "KVM_SET_CPUID2");
}

VcpuState KvmVcpu::state() const {
  VcpuState state;
  kvm_ioctl(fd(), KVM_GET_REGS, &state.regs, "KVM_GET_REGS");
  // What regs_changed() announced reaches the vCPU only when it runs.
  if (run_->kvm_dirty_regs & KVM_SYNC_X86_REGS) state.regs = run_->s.regs.regs;
  get_sregs(fd(), &state.sregs);
  kvm_ioctl(fd(), KVM_GET_XCRS, &state.xcrs, "KVM_GET_XCRS");
  kvm_ioctl(fd(), KVM_GET_XSAVE, state.xsave.data(), "KVM_GET_XSAVE");
  kvm_ioctl(fd(), KVM_GET_DEBUGREGS, &state.debug, "KVM_GET_DEBUGREGS");
  kvm_ioctl(fd(), KVM_GET_VCPU_EVENTS, &state.events, "KVM_GET_VCPU_EVENTS");
  kvm_ioctl(fd(), KVM_GET_MP_STATE, &state.mp, "KVM_GET_MP_STATE");
  MsrBuffer buffer;
  buffer.header.nmsrs = std::size(kStateMsrs);
  for (size_t i = 0; i < std::size(kStateMsrs); i++) buffer.entries[i].index = kStateMsrs[i];
  int got = kvm_ioctl(fd(), KVM_GET_MSRS, &buffer, "KVM_GET_MSRS");
  for (int i = 0; i < got; i++) state.msrs.push_back(buffer.entries[i].data);
  return state;
}

void KvmVcpu::set_state(const VcpuState& state) {
  VcpuState copy = state;
  // XCR0 decides what XSAVE may hold, so it goes first.
  put_sregs(fd(), copy.sregs);
  kvm_ioctl(fd(), KVM_SET_XCRS, &copy.xcrs, "KVM_SET_XCRS");
  kvm_ioctl(fd(), KVM_SET_XSAVE, copy.xsave.data(), "KVM_SET_XSAVE");
  kvm_ioctl(fd(), KVM_SET_DEBUGREGS, &copy.debug, "KVM_SET_DEBUGREGS");
  for (size_t i = 0; i < copy.msrs.size(); i++) set_msr(kStateMsrs[i], copy.msrs[i]);
  set_regs(copy.regs);
  kvm_ioctl(fd(), KVM_SET_VCPU_EVENTS, &copy.events, "KVM_SET_VCPU_EVENTS");
  kvm_ioctl(fd(), KVM_SET_MP_STATE, &copy.mp, "KVM_SET_MP_STATE");
}

kvm_dirty_gfn* KvmVcpu::map_dirty_ring(uint32_t entries) const {
  void* map = mmap(nullptr, entries * sizeof(kvm_dirty_gfn), PROT_READ | PROT_WRITE, MAP_SHARED, fd(),
                   KVM_DIRTY_LOG_PAGE_OFFSET * 4096);
  if (map == MAP_FAILED) throw_system("ERR_LOCKSTEP_KVM", "mmap", "the dirty ring");
  return static_cast<kvm_dirty_gfn*>(map);
}

}  // namespace lockstep
