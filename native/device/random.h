// The machine's randomness: ChaCha20 (RFC 8439) keyed by the 32-byte seed in the log's header, so that
// random bytes cost the log nothing. Bare guests read 0x720, 1 to 4 bytes at a time.
#pragma once

#include "device/device.h"

namespace lockstep {

class Random : public Device {
 public:
  static constexpr uint16_t kPort = 0x720;
  static constexpr uint16_t kPorts = 4;
  explicit Random(std::span<const uint8_t, 32> seed);
  void fill(std::span<uint8_t> out);
  void write(const Access&) override {}
  uint64_t read(const Access& access) override;
  void save(StateWriter& out) const override;
  void restore(StateReader& in) override;

 private:
  void refill();
  std::array<uint32_t, 8> key_{};
  uint64_t block_ = 0;
  uint32_t used_ = 64;
  std::array<uint8_t, 64> stream_{};
};

}  // namespace lockstep
