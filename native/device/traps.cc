#include "device/traps.h"

#include <algorithm>

#include "guest/abi.h"

namespace lockstep {

namespace {
enum { kRax = 0, kRcx = 1, kRdx = 2, kRbx = 3 };
constexpr uint64_t kCarry = 1, kStatusFlags = 0x8d5;  // OF SF ZF AF PF CF
constexpr uint64_t kTicksPerUs = 1000;
}  // namespace

bool Traps::wants_time(uint64_t port) { return port == LS_PORT_RDTSC || port == LS_PORT_RDTSCP; }

// One tick beyond the last at least: programs divide by differences.
uint64_t Traps::time_stamp() {
  last_tsc_ = std::max(last_tsc_ + 1, clock_.now_us() * kTicksPerUs);
  return last_tsc_;
}

bool Traps::answer(uint64_t port, TrapRegisters& r) {
  auto low = [](uint64_t value) { return value & 0xffffffff; };
  if (port == LS_PORT_CPUID) {
    CpuidResult result = model_.cpuid(low(r.gpr[kRax]), low(r.gpr[kRcx]));
    r.gpr[kRax] = result.eax;
    r.gpr[kRbx] = result.ebx;
    r.gpr[kRcx] = result.ecx;
    r.gpr[kRdx] = result.edx;
    return true;
  }
  if (port == LS_PORT_RDTSC || port == LS_PORT_RDTSCP) {
    uint64_t now = time_stamp();
    r.gpr[kRax] = low(now);
    r.gpr[kRdx] = now >> 32;
    if (port == LS_PORT_RDTSCP) r.gpr[kRcx] = 0;  // processor 0
    return true;
  }
  unsigned reg = port & 15;
  if (port >= LS_PORT_RDPID && port < LS_PORT_RDPID + 16) {
    r.gpr[reg] = 0;
    return true;
  }
  if (port >= LS_PORT_RDRAND32 && port < LS_PORT_RDSEED64 + 16) {
    bool wide = port & 0x10;
    uint64_t value = 0;
    random_.fill({reinterpret_cast<uint8_t*>(&value), wide ? 8u : 4u});
    r.gpr[reg] = value;
    r.rflags = (r.rflags & ~kStatusFlags) | kCarry;
    return true;
  }
  return false;
}

}  // namespace lockstep
