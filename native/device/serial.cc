#include "device/serial.h"

namespace lockstep {

namespace {
enum Register {
  kData,
  kInterruptEnable,
  kInterruptId,
  kLineControl,
  kModemControl,
  kLineStatus,
  kModemStatus,
  kScratch
};
constexpr uint8_t kReceiveInterrupt = 1;
constexpr uint8_t kDataReady = 1, kTransmitterEmpty = 0x60;
constexpr uint8_t kLoopback = 0x10;
constexpr uint8_t kCarrierAndClear = 0xb0;
}  // namespace

void Serial::write(const Access& access) {
  uint8_t value = static_cast<uint8_t>(access.value);
  switch (access.address - kPort) {
    case kData:
      if (divisor_access())
        divisor_ = (divisor_ & 0xff00) | value;
      else if (modem_control_ & kLoopback)
        received_.size() < kFifoMax ? received_.push_back(value) : void();
      else
        sink_.output(kChannel, {&value, 1});
      break;
    case kInterruptEnable:
      if (divisor_access())
        divisor_ = (divisor_ & 0xff) | value << 8;
      else
        interrupt_enable_ = value & 0xf;
      break;
    case kInterruptId:
      fifo_control_ = value;
      if (value & 2) received_.clear();
      break;
    case kLineControl: line_control_ = value; break;
    case kModemControl: modem_control_ = value & 0x1f; break;
    case kScratch: scratch_ = value; break;
    default: break;  // the status registers are read-only
  }
}

uint64_t Serial::read(const Access& access) {
  switch (access.address - kPort) {
    case kData: {
      if (divisor_access()) return divisor_ & 0xff;
      if (received_.empty()) return 0;
      uint8_t value = received_.front();
      received_.pop_front();
      return value;
    }
    case kInterruptEnable: return divisor_access() ? divisor_ >> 8 : interrupt_enable_;
    case kInterruptId:
      return (fifo_control_ & 1 ? 0xc0 : 0) |
             (!received_.empty() && interrupt_enable_ & kReceiveInterrupt ? 4 : 1);
    case kLineControl: return line_control_;
    case kModemControl: return modem_control_;
    case kLineStatus: return kTransmitterEmpty | (received_.empty() ? 0 : kDataReady);
    case kModemStatus: return kCarrierAndClear;
    default: return scratch_;
  }
}

Want Serial::want(const Access&) {
  Want want;
  want.bare = true;
  return want;
}

void Serial::input(const Input& input) {
  if (input.kind != InputKind::kSerial) return;
  for (uint8_t byte : input.bytes)
    if (received_.size() < kFifoMax) received_.push_back(byte);
  if (interrupt_enable_ & kReceiveInterrupt) sink_.raise(kVector);
}

void Serial::save(StateWriter& out) const {
  Bytes bytes(received_.begin(), received_.end());
  out.put_bytes(bytes);
  for (uint8_t value : {interrupt_enable_, fifo_control_, line_control_, modem_control_, scratch_})
    out.put(value);
  out.put(divisor_);
}

void Serial::restore(StateReader& in) {
  Bytes bytes = in.get_bytes();
  if (bytes.size() > kFifoMax) throw Failure("ERR_LOCKSTEP_STATE_DAMAGED", "a 16550 holds more than it can");
  received_.assign(bytes.begin(), bytes.end());
  for (uint8_t* value : {&interrupt_enable_, &fifo_control_, &line_control_, &modem_control_, &scratch_})
    in.get(*value);
  in.get(divisor_);
}

}  // namespace lockstep
