// What a confined thread may do, and what it may not: real filters on real threads.
#include "sandbox.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <thread>

#include "kvm/system.h"
#include "test/check.h"

using namespace lockstep;
using namespace lockstep::test;

namespace {

// The error number that `call` fails with on a thread of this duty; 0 when it does not.
int error_on(Duty duty, const std::function<long()>& call) {
  int error = 0;
  bool confined = false;
  std::thread([&] {
    confined = confine_thread(duty);
    error = call() < 0 ? errno : 0;
  }).join();
  CHECK(confined);
  return error;
}

bool refuses(Duty duty, long number, const std::function<long()>& call) {
  const std::string said = refused_call(error_on(duty, call));
  return said.ends_with("refuses system call " + std::to_string(number));
}

long open_null() {
  Fd fd(open("/dev/null", O_RDONLY | O_CLOEXEC));
  return fd.get();
}

long make_socket() {
  Fd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  return fd.get();
}

long map(int protection) {
  void* page = mmap(nullptr, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return -1;
  const int made_executable = mprotect(page, 4096, PROT_READ | PROT_EXEC);
  const int error = errno;
  munmap(page, 4096);
  errno = error;
  return made_executable;
}

constexpr Duty kAll[] = {Duty::kMachine, Duty::kPair, Duty::kTls};

}  // namespace

TEST(sandbox_starts_no_program_and_touches_no_other_process) {
  for (Duty duty : kAll) {
    char name[] = "/nowhere";
    char* argv[] = {name, nullptr};
    CHECK(refuses(duty, SYS_execve, [&] { return execve(name, argv, nullptr); }));
    CHECK(refuses(duty, SYS_clone, [] {
      const pid_t child = fork();
      if (child == 0) _exit(0);
      if (child > 0) waitpid(child, nullptr, 0);
      return child;
    }));
    CHECK(refuses(duty, SYS_kill, [] { return kill(1, 0); }));
    CHECK(refuses(duty, SYS_ptrace, [] { return syscall(SYS_ptrace, 0, 0, 0, 0); }));
    CHECK(refuses(duty, SYS_process_vm_writev,
                  [] { return syscall(SYS_process_vm_writev, 1, nullptr, 0, nullptr, 0, 0); }));
    CHECK(refuses(duty, SYS_prctl, [] { return prctl(PR_SET_DUMPABLE, 1); }));
    CHECK(refuses(duty, SYS_mmap, [] { return map(PROT_READ | PROT_EXEC); }));
    CHECK(refuses(duty, SYS_mprotect, [] { return map(PROT_READ | PROT_WRITE); }));
    // Those that libraries fall back from.
    CHECK(error_on(duty, [] { return syscall(SYS_pidfd_open, getpid(), 0); }) == ENOSYS);
  }
}

TEST(sandbox_knows_a_thread_s_duty) {
  CHECK(refuses(Duty::kMachine, SYS_openat, open_null));
  CHECK(refuses(Duty::kTls, SYS_openat, open_null));
  CHECK(error_on(Duty::kPair, open_null) == 0);
  CHECK(refuses(Duty::kMachine, SYS_socket, make_socket));
  CHECK(refuses(Duty::kTls, SYS_socket, make_socket));
  CHECK(error_on(Duty::kPair, make_socket) == 0);
  // A terminal is no machine, but its descriptor may be at hand.
  Fd null(open("/dev/null", O_RDONLY | O_CLOEXEC));
  winsize size{};
  for (Duty duty : kAll)
    CHECK(refuses(duty, SYS_ioctl, [&] { return ioctl(null.get(), TIOCGWINSZ, &size); }));
  kvm_regs regs{};
  CHECK(error_on(Duty::kMachine, [&] { return ioctl(null.get(), KVM_GET_REGS, &regs); }) == ENOTTY);
  CHECK(refuses(Duty::kPair, SYS_ioctl, [&] { return ioctl(null.get(), KVM_GET_REGS, &regs); }));
}

TEST(sandbox_leaves_memory_and_threads_which_it_holds_too) {
  for (Duty duty : kAll) {
    const int error = error_on(duty, [] {
      int inside = 0;
      std::thread([&] { inside = open_null() < 0 ? errno : 0; }).join();
      std::vector<char> large(64 << 20, 'x');
      large.resize(128 << 20);
      errno = inside;
      return inside == 0 ? 0 : -1;
    });
    CHECK(duty == Duty::kPair ? error == 0 : !refused_call(error).empty());
  }
  CHECK(open_null() >= 0);  // and nobody else
}

TEST(sandbox_says_which_call_it_was) {
  std::string message;
  CHECK(failure_code(
            [] {
              const int error = error_on(Duty::kMachine, make_socket);
              throw_system("ERR_LOCKSTEP_SYSTEM", "socket", "opening a socket", {}, error);
            },
            &message) == "ERR_LOCKSTEP_SYSTEM");
  CHECK(message == "opening a socket: Lockstep's own sandbox refuses system call 41 (socket)");
  CHECK(refused_call(ENOENT).empty());
}
