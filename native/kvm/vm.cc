#include "kvm/vm.h"

#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/utsname.h>

#include <cstdio>

#include "kvm/uapi.h"

namespace lockstep {

namespace {
constexpr uint32_t kFlushSlot = 31;
constexpr uint64_t kFlushGpa =
    0x7ff0000000ull;                      // above any RAM, within 39 bits, which is all some processors have
constexpr uint64_t kTssGpa = 0xfffbd000;  // three pages VT-x wants for real mode

// Linux 6.16 made KVM_RESET_DIRTY_RINGS break off when a signal is pending (SIGSTOP, a debugger, the
// freezer). It then forgets to write-protect up to 64 pages that it has taken off the ring, and its answer
// does not tell: what the guest writes there next goes unseen. The bitmap knows no such thing.
bool ring_loses_pages() {
  utsname name{};
  int major = 0, minor = 0;
  if (uname(&name) != 0 || std::sscanf(name.release, "%d.%d", &major, &minor) != 2) return true;
  return major > 6 || (major == 6 && minor >= 16);
}
}  // namespace

KvmVm::KvmVm(const KvmSystem& system) : system_(system) {
  fd_ = Fd(kvm_ioctl(system.fd(), KVM_CREATE_VM, nullptr, "KVM_CREATE_VM"));
  if (system.extension(KVM_CAP_SET_TSS_ADDR)) ioctl(fd(), KVM_SET_TSS_ADDR, kTssGpa);
}

void KvmVm::set_slot(uint32_t slot, uint64_t gpa, uint64_t bytes, void* host, bool log_dirty) {
  kvm_userspace_memory_region region{slot, log_dirty ? uint32_t{KVM_MEM_LOG_DIRTY_PAGES} : 0, gpa, bytes,
                                     reinterpret_cast<uint64_t>(host)};
  kvm_ioctl(fd(), KVM_SET_USER_MEMORY_REGION, &region, "KVM_SET_USER_MEMORY_REGION");
}

bool KvmVm::enable_dirty_ring(uint32_t entries) {
  if (ring_loses_pages()) return false;
  int bytes_max = system_.extension(KVM_CAP_DIRTY_LOG_RING_ACQ_REL);
  if (bytes_max < static_cast<int>(entries * sizeof(kvm_dirty_gfn))) return false;
  kvm_enable_cap enable{};
  enable.cap = KVM_CAP_DIRTY_LOG_RING_ACQ_REL;
  enable.args[0] = entries * sizeof(kvm_dirty_gfn);
  return ioctl(fd(), KVM_ENABLE_CAP, &enable) == 0;
}

void KvmVm::flush_page_tables() {
  void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) throw_system("ERR_LOCKSTEP_MEMORY", "mmap", "one page");
  set_slot(kFlushSlot, kFlushGpa, 4096, page, false);
  set_slot(kFlushSlot, kFlushGpa, 0, page, false);
  munmap(page, 4096);
}

}  // namespace lockstep
