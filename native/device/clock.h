// Virtual time, and a one-shot timer that raises an interrupt in bare guests.
//   0x700 read 4: microseconds, low half (brings time up to date); 0x704 read 4: high half of the same
//   0x708 write 1: interrupt vector; 0x70c write 4: fire after so many microseconds (0: disarm)
#pragma once

#include "device/device.h"

namespace lockstep {

class Clock : public Device {
 public:
  static constexpr uint16_t kPort = 0x700;
  static constexpr uint16_t kPorts = 16;
  explicit Clock(Sink& sink) : sink_(sink) {}
  uint64_t now_us() const { return now_us_; }
  bool armed() const { return countdown_us_ || deadline_us_ != UINT64_MAX; }
  uint64_t deadline_us() const { return deadline_us_; }
  void write(const Access& access) override;
  uint64_t read(const Access& access) override;
  Want want(const Access& access) override;
  void time(uint64_t now_us) override;
  void save(StateWriter& out) const override;
  void restore(StateReader& in) override;

 private:
  Sink& sink_;
  uint64_t now_us_ = 0;
  uint64_t deadline_us_ = UINT64_MAX;
  uint32_t countdown_us_ = 0;  // written, not yet running
  uint32_t latched_high_ = 0;
  uint8_t vector_ = 0x20;
};

}  // namespace lockstep
