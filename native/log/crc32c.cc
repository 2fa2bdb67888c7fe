#include "log/crc32c.h"

#include <nmmintrin.h>

#include <array>
#include <cstring>

namespace lockstep {
namespace {

constexpr auto kTable = [] {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (crc & 1 ? 0x82f63b78u : 0);
    table[i] = crc;
  }
  return table;
}();

__attribute__((target("sse4.2"))) uint32_t crc32c_hardware(uint32_t crc, std::span<const uint8_t> bytes) {
  const uint8_t* at = bytes.data();
  size_t left = bytes.size();
  for (; left >= 8; left -= 8, at += 8) {
    uint64_t word;
    memcpy(&word, at, sizeof word);
    crc = static_cast<uint32_t>(_mm_crc32_u64(crc, word));
  }
  for (; left > 0; left--) crc = _mm_crc32_u8(crc, *at++);
  return crc;
}

}  // namespace

uint32_t crc32c_software(uint32_t crc, std::span<const uint8_t> bytes) {
  for (const uint8_t byte : bytes) crc = kTable[(crc ^ byte) & 0xff] ^ (crc >> 8);
  return crc;
}

uint32_t crc32c(uint32_t crc, std::span<const uint8_t> bytes) {
  static const auto best = __builtin_cpu_supports("sse4.2") ? crc32c_hardware : crc32c_software;
  return best(crc, bytes);
}

}  // namespace lockstep
