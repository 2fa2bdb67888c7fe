#include "sandbox.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <initializer_list>
#include <vector>

#include "error.h"
#include "fault_point.h"
#include "kvm/uapi.h"

namespace lockstep {

namespace {

// Refused call N fails with this error number plus N: nothing else has such numbers, and 4095 is the highest.
constexpr int kRefused = 3584;
// (The C library's allocator once asks /sys for the number of processors, and takes that for an answer.)
// From here on calls are new ones, which libraries try before older ones if the kernel seems to be of an age
// with them. They need to hear that it is not.
constexpr int kFirstNewCall = 424;

constexpr std::initializer_list<int> kEverybody = {
    // descriptors that are open
    SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_pread64, SYS_pwrite64, SYS_close, SYS_lseek, SYS_poll,
    SYS_ppoll, SYS_fcntl, SYS_sendto, SYS_recvfrom, SYS_sendmsg, SYS_recvmsg, SYS_ftruncate, SYS_fallocate,
    SYS_fdatasync,
    // time, other threads of this process
    SYS_futex, SYS_clock_gettime, SYS_clock_getres, SYS_clock_nanosleep, SYS_nanosleep, SYS_gettimeofday,
    SYS_time, SYS_sched_yield, SYS_sched_getaffinity, SYS_getpid, SYS_gettid, SYS_set_robust_list, SYS_rseq,
    SYS_rt_sigprocmask, SYS_rt_sigtimedwait, SYS_rt_sigreturn, SYS_restart_syscall, SYS_sigaltstack,
    SYS_pause, SYS_exit, SYS_exit_group,
    // memory, but for what would be executable
    SYS_brk, SYS_munmap, SYS_mremap, SYS_madvise, SYS_getrandom,
    // The C library has every thread do it when a process gives up its privileges.
    SYS_setgroups, SYS_setgid, SYS_setuid};

constexpr std::initializer_list<int> kServing = {SYS_accept4,     SYS_setsockopt,  SYS_getsockopt,
                                                 SYS_getsockname, SYS_getpeername, SYS_seccomp};

constexpr std::initializer_list<int> kConnecting = {
    SYS_socket, SYS_bind, SYS_listen, SYS_connect, SYS_shutdown, SYS_eventfd2,
    // of an arbiter, of sockets' paths, and of names of hosts
    SYS_openat, SYS_stat, SYS_fstat, SYS_lstat, SYS_newfstatat, SYS_fchmod, SYS_fsync, SYS_link, SYS_unlink,
    SYS_rename, SYS_uname, SYS_sendmmsg};

// Of the vCPU and its machine, once it is built.
constexpr std::initializer_list<unsigned long> kKvmRequests = {KVM_RUN,
                                                               KVM_INTERRUPT,
                                                               KVM_GET_DIRTY_LOG,
                                                               KVM_RESET_DIRTY_RINGS,
                                                               KVM_SET_USER_MEMORY_REGION,
                                                               KVM_TRANSLATE,
                                                               KVM_GET_REGS,
                                                               KVM_SET_REGS,
                                                               KVM_GET_SREGS,
                                                               KVM_SET_SREGS,
                                                               KVM_GET_XCRS,
                                                               KVM_SET_XCRS,
                                                               KVM_GET_XSAVE,
                                                               KVM_SET_XSAVE,
                                                               KVM_GET_DEBUGREGS,
                                                               KVM_SET_DEBUGREGS,
                                                               KVM_GET_VCPU_EVENTS,
                                                               KVM_SET_VCPU_EVENTS,
                                                               KVM_GET_MP_STATE,
                                                               KVM_SET_MP_STATE,
                                                               KVM_GET_MSRS,
                                                               KVM_SET_MSRS};

// Builds a program from top to bottom. The kernel remembers of which calls the answer is always yes, so what
// stands below costs those nothing; the others come first.
class Program {
 public:
  Program() {
    load(offsetof(seccomp_data, arch));
    add(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
    refuse_as(ENOSYS);
    load_number();
  }
  void allow(int call) {
    add(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1);
    allow();
  }
  void allow_all(std::initializer_list<int> calls) {
    for (int call : calls) allow(call);
  }
  // Where the low half of an argument, which is all the kernel looks at in these, is one of `values`.
  template <typename Value>
  void allow_if(int call, int argument, std::initializer_list<Value> values) {
    const auto tests = static_cast<uint8_t>(2 * values.size());
    add(BPF_JMP | BPF_JEQ | BPF_K, call, 0, static_cast<uint8_t>(tests + 2));
    load_argument(argument);
    for (Value value : values) {
      add(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(value), 0, 1);
      allow();
    }
    refuse_as(kRefused + call);
  }
  // Where the bits of `mask` in an argument are all set, or none is.
  void allow_bits(int call, int argument, uint32_t mask, bool set) {
    add(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 4);
    load_argument(argument);
    add(BPF_JMP | BPF_JSET | BPF_K, mask, set ? 1 : 0, set ? 0 : 1);
    refuse_as(kRefused + call);
    allow();
  }
  std::vector<sock_filter>& finish() {
    add(BPF_JMP | BPF_JGE | BPF_K, kFirstNewCall, 0, 1);
    refuse_as(ENOSYS);
    add(BPF_ALU | BPF_ADD | BPF_K, SECCOMP_RET_ERRNO | kRefused);
    add(BPF_RET | BPF_A, 0);
    return code_;
  }

 private:
  void add(int code, uint32_t k, uint8_t if_true = 0, uint8_t if_false = 0) {
    code_.push_back({static_cast<uint16_t>(code), if_true, if_false, k});
  }
  void load(size_t offset) { add(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(offset)); }
  void load_number() { load(offsetof(seccomp_data, nr)); }
  void load_argument(int n) {
    load(offsetof(seccomp_data, args) + sizeof(uint64_t) * static_cast<size_t>(n));
  }
  void allow() { add(BPF_RET | BPF_K, SECCOMP_RET_ALLOW); }
  void refuse_as(int error_number) {
    add(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<uint32_t>(error_number));
  }

  std::vector<sock_filter> code_;
};

Program program_for(Duty duty) {
  Program program;
  if (duty == Duty::kMachine) program.allow_if(SYS_ioctl, 1, kKvmRequests);
  if (duty == Duty::kPages) program.allow_if(SYS_ioctl, 1, {UFFDIO_COPY, UFFDIO_ZEROPAGE, UFFDIO_UNREGISTER});
  if (duty == Duty::kPair)
    program.allow_if(SYS_ioctl, 1, {FIONREAD});  // by which names of hosts are looked up
  program.allow_bits(SYS_mmap, 2, PROT_EXEC, false);
  program.allow_bits(SYS_mprotect, 2, PROT_EXEC, false);
  program.allow_bits(SYS_clone, 0, CLONE_THREAD, true);
  const pid_t self = getpid();
  program.allow_if(SYS_tgkill, 0, {self});
  program.allow_if(SYS_kill, 0, {self});
  program.allow_if(SYS_prlimit64, 0, {0});
  program.allow_if(SYS_prctl, 0, {PR_SET_NAME, PR_SET_NO_NEW_PRIVS});
  program.allow_all(kEverybody);
  if (duty == Duty::kPair || duty == Duty::kTls) program.allow_all(kServing);
  if (duty == Duty::kPair) program.allow_all(kConnecting);
  return program;
}

bool install(std::vector<sock_filter>& code, unsigned flags) {
  sock_fprog filter{static_cast<uint16_t>(code.size()), code.data()};
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &filter) == 0;
}

}  // namespace

bool confine_thread(Duty duty) {
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return false;
  Program program = program_for(duty);
  std::vector<sock_filter>& code = program.finish();
  // Some kernels slow a filtered thread down, lest it read by speculation what it shares a process with. The
  // guest has that thread with or without a filter, and would pay for it.
  return install(code, SECCOMP_FILTER_FLAG_SPEC_ALLOW) || install(code, 0);
}

std::string refused_call(int error_number) {
  if (error_number < kRefused) return {};
  return "Lockstep's own sandbox refuses system call " + std::to_string(error_number - kRefused);
}

void try_forbidden_call(const char* place) {
  if (!fault_due(place)) return;
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) throw_system("ERR_LOCKSTEP_SYSTEM", "socket", "opening a socket");
  close(fd);
  throw Failure("ERR_LOCKSTEP_SYSTEM", "a socket was opened");
}

}  // namespace lockstep
