// Answers the instructions that the packer replaced by OUT (guest/abi.h): CPUID from the machine's fixed CPU
// model, time from virtual time, random numbers from the machine's generator.
#pragma once

#include "device/clock.h"
#include "device/random.h"
#include "kvm/cpu_model.h"

namespace lockstep {

// General registers in the processor's own numbering, and RFLAGS.
struct TrapRegisters {
  std::array<uint64_t, 16> gpr{};
  uint64_t rflags = 0;
};

class Traps {
 public:
  Traps(const CpuModel& model, const Clock& clock, Random& random)
      : model_(model), clock_(clock), random_(random) {}
  static bool is_trap(uint64_t port) { return port >= 0x80 && port < 0xe0; }
  static bool wants_time(uint64_t port);
  // After the inputs of the position. False: no such trap.
  bool answer(uint64_t port, TrapRegisters& registers);
  void save(StateWriter& out) const { out.put(last_tsc_); }
  void restore(StateReader& in) { in.get(last_tsc_); }

 private:
  uint64_t time_stamp();
  const CpuModel& model_;
  const Clock& clock_;
  Random& random_;
  uint64_t last_tsc_ = 0;
};

}  // namespace lockstep
