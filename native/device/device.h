// What a device is: a state machine. It knows neither KVM nor the log nor the host's clock, and reaches
// outside only through its Sink. Recording and replaying run the same code.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "device/state_stream.h"
#include "log/event.h"

namespace lockstep {

enum class Space : uint8_t { kPort, kMmio, kHalt };

// One access of the guest. A string instruction makes one for each element.
struct Access {
  Space space = Space::kPort;
  uint64_t address = 0;
  uint8_t size = 1;
  bool write = true;
  uint64_t value = 0;  // what the guest sent, or what it gets
};

// What a device would like to have before the guest goes on from this access.
struct Want {
  bool time = false;  // bring virtual time up to date
  bool wait = false;  // stand still until there is an input, or the deadline
  uint64_t deadline_us = UINT64_MAX;
  std::array<uint32_t, 4> room{};  // bytes of input each channel can take
  bool signals = false;            // signals, window sizes and hang-ups can be taken
  bool bare = false;               // interrupts can be taken
  uint32_t serial = 0;             // bytes the 16550 can take
  uint32_t packets = 0;            // frames the network card has buffers for
};

// The outside, as a device sees it.
class Sink {
 public:
  virtual ~Sink() = default;
  virtual void output(uint8_t channel, std::span<const uint8_t> bytes) = 0;
  virtual void raise(uint8_t vector) = 0;
  virtual void end(const End& end, const std::string& detail) = 0;
};

class Device {
 public:
  virtual ~Device() = default;
  // A write happens before inputs of its position, a read after them.
  virtual void write(const Access& access) = 0;
  virtual uint64_t read(const Access& access) = 0;
  virtual Want want(const Access&) { return {}; }
  virtual void input(const Input&) {}
  virtual void time(uint64_t /*now_us*/) {}  // virtual time has come this far
  virtual void save(StateWriter& out) const = 0;
  virtual void restore(StateReader& in) = 0;
};

}  // namespace lockstep
