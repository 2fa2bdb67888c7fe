#include "fault_point.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <string>

namespace lockstep {

namespace {

struct Fault {
  std::string place;
  long pass = 1;
  bool stops = false;
  std::atomic<long> passed{0};

  explicit Fault(std::string text) {
    size_t colon = text.find(':');
    place = text.substr(0, colon);
    if (colon == std::string::npos) return;
    pass = std::atol(text.c_str() + colon + 1);
    stops = text.ends_with(":stop");
  }
};

// Never destroyed: threads may pass a place while the process exits.
Fault& fault() {
  static Fault& it = *new Fault(std::getenv("LOCKSTEP_FAULT"));
  return it;
}

}  // namespace

const bool fault_is_set = std::getenv("LOCKSTEP_FAULT") != nullptr;

bool fault_passes(const char* place) { return fault().place == place && ++fault().passed == fault().pass; }

void fault_strike() {
  kill(getpid(), fault().stops ? SIGSTOP : SIGKILL);
  // A signal to the whole process may reach this thread a moment later.
  if (!fault().stops) pause();
}

}  // namespace lockstep
