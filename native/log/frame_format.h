// How a frame stands in a file or on the wire.
//
//   small:    one event of up to 127 bytes as it stands (its first byte is below 0x80), checksum
//   general:  head, payload, checksum. Head: 0x80 | compressed (bit 6) | more (bit 5) | low five bits of the
//             payload's length; when more, the rest as a varint; then a check byte of the head alone, so that
//             a damaged length is found as such and does not look like a log that was cut. (A bit that makes
//             the head itself longer gets past that once in 256 times; hides_a_frame() tells then.)
//   checksum: CRC-32C over all frames so far and this one up to here. All of it after a payload of 128 bytes
//             or more, else its halves XORed: enough to find every single flipped bit (log_test tries each),
//             while the chain has the next frames find what else may slip through.
#pragma once

#include <span>

#include "log/crc32c.h"
#include "log/event.h"
#include "log/record_codec.h"

namespace lockstep {

constexpr size_t kPayloadMax = size_t{64} << 20;
constexpr size_t kFrameMemoryMax = size_t{256} << 20;  // of the records of one frame
constexpr size_t kHeadMax = 5;
constexpr size_t kSmallMax = 127;  // payloads up to here have a 16-bit checksum
// Output waits for smaller frames, and of each compressing would take longer than writing and checking it: 5
// us for 2 KB of packets, of 110 us in which a guest answers them. What is larger is a checkpoint, or a
// flood.
constexpr size_t kCompressMin = size_t{16} << 10;
constexpr int kCompressLevel = 1;
constexpr uint8_t kGeneral = 0x80, kCompressed = 0x40, kMoreLength = 0x20;
constexpr uint32_t kChainStart = 0xffffffff;

// What both sides carry from frame to frame.
struct FrameState {
  DeltaState delta;
  uint32_t chain = kChainStart;
};

constexpr size_t checksum_bytes(size_t payload) { return payload <= kSmallMax ? 2 : 4; }
constexpr uint32_t checksum_of(uint32_t chain, size_t payload) {
  return payload <= kSmallMax ? (chain ^ chain >> 16) & 0xffff : chain;
}
inline uint8_t head_check(std::span<const uint8_t> head) {
  const uint32_t crc = crc32c(kChainStart, head);
  return static_cast<uint8_t>(crc ^ crc >> 8 ^ crc >> 16 ^ crc >> 24);
}

}  // namespace lockstep
