// CRC-32C (Castagnoli), by the CPU's instruction where there is one.
#pragma once

#include <cstdint>
#include <span>

namespace lockstep {

// Goes on from `crc`, without inversion before or after: the state of a chain can be passed back in.
uint32_t crc32c(uint32_t crc, std::span<const uint8_t> bytes);
uint32_t crc32c_software(uint32_t crc, std::span<const uint8_t> bytes);

}  // namespace lockstep
