// What a native thread may ask of the kernel once it is set up: a seccomp filter, so that whoever got hold of
// such a thread, by a flaw in what parses a guest, a log or a peer, starts no program, opens no door, and
// touches no other process. A filter holds for its thread and those that it starts; JavaScript's have none.
#pragma once

#include <string>

namespace lockstep {

enum class Duty {
  kMachine,  // the vCPU: KVM, and descriptors that are open
  kPair,     // sockets, and the files of an arbiter
  kTls,      // handshakes of whoever connects
  kPages,    // contents of guest memory, when it is touched
};

// For good: this thread gains no privileges by executing, and makes no calls but those of its duty. What it
// may not fails with an error number of its own, which refused_call() knows, or where libraries have
// something older to fall back on, with ENOSYS. False where the host's kernel has no such filters.
bool confine_thread(Duty duty);

// "Lockstep's own sandbox refuses system call N"; "" when that is not what this error number says.
std::string refused_call(int error_number);

// Test aid: with LOCKSTEP_FAULT=PLACE this thread tries to open a socket; throws what comes of it.
void try_forbidden_call(const char* place);

}  // namespace lockstep
