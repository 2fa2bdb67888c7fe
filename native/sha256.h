// SHA-256, for images and recordings. Uses the CPU's SHA instructions where it has them, because an image of
// some ten megabytes is hashed at every start.
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace lockstep {

class Sha256 {
 public:
  void update(std::span<const uint8_t> bytes);
  // Call once, at the end.
  std::array<uint8_t, 32> finish();

 private:
  uint32_t state_[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  uint8_t block_[64];
  size_t block_used_ = 0;
  uint64_t bytes_ = 0;
};

std::array<uint8_t, 32> sha256(std::span<const uint8_t> bytes);

// For tests: hashes in plain C++ from now on, as on a CPU without SHA instructions.
void sha256_use_software(bool software);

}  // namespace lockstep
