// A 16550 UART at COM1, as far as software polls or is interrupted by it. (PC16550D data sheet, 1995.)
#pragma once

#include <deque>

#include "device/device.h"

namespace lockstep {

class Serial : public Device {
 public:
  static constexpr uint16_t kPort = 0x3f8;
  static constexpr uint16_t kPorts = 8;
  static constexpr uint8_t kChannel = 4;    // of output
  static constexpr uint8_t kVector = 0x24;  // IRQ 4 on a PC remapped to 0x20
  static constexpr size_t kFifoMax = 4096;  // more than the chip's 16: input is logged whole
  explicit Serial(Sink& sink) : sink_(sink) {}
  uint32_t room() const { return static_cast<uint32_t>(kFifoMax - received_.size()); }
  void write(const Access& access) override;
  uint64_t read(const Access& access) override;
  Want want(const Access& access) override;
  void input(const Input& input) override;
  void save(StateWriter& out) const override;
  void restore(StateReader& in) override;

 private:
  bool divisor_access() const { return line_control_ & 0x80; }
  Sink& sink_;
  std::deque<uint8_t> received_;
  uint8_t interrupt_enable_ = 0, fifo_control_ = 0, line_control_ = 3, modem_control_ = 0, scratch_ = 0;
  uint16_t divisor_ = 1;
};

}  // namespace lockstep
