// Ends a bare guest: 0x604 written, 1 to 4 bytes, is its exit status.
#pragma once

#include "device/device.h"

namespace lockstep {

class Power : public Device {
 public:
  static constexpr uint16_t kPort = 0x604;
  static constexpr uint16_t kPorts = 4;
  explicit Power(Sink& sink) : sink_(sink) {}
  void write(const Access& access) override {
    sink_.end({0, 0, EndReason::kExited, static_cast<uint32_t>(access.value)}, "");
  }
  uint64_t read(const Access&) override { return 0; }
  void save(StateWriter&) const override {}
  void restore(StateReader&) override {}

 private:
  Sink& sink_;
};

}  // namespace lockstep
