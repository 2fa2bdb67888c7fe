// Why KVM_RUN came back, as one typed variant. Borrowed pointers live until the next run.
#pragma once

#include <cstdint>
#include <string>
#include <variant>

namespace lockstep {

struct PortExit {
  uint16_t port;
  uint8_t size;
  uint32_t count;  // elements of a string instruction
  bool write;
  uint8_t* data;  // size * count bytes
};
struct MmioExit {
  uint64_t address;
  uint8_t size;
  bool write;
  uint8_t* data;
};
struct HaltExit {};
struct ShutdownExit {};         // triple fault
struct InterruptedExit {};      // a kick; not a position
struct DirtyRingFullExit {};    // not a position
struct InterruptWindowExit {};  // not a position
struct EmulationExit {          // KVM's emulator refused an instruction
  uint32_t suberror;
  uint8_t length;  // of `bytes`; 0 when KVM did not say
  uint8_t bytes[15];
};
struct UnknownExit {
  std::string what;
};

using Exit = std::variant<PortExit, MmioExit, HaltExit, ShutdownExit, InterruptedExit, DirtyRingFullExit,
                          InterruptWindowExit, EmulationExit, UnknownExit>;

}  // namespace lockstep
