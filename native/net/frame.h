// Ethernet frames: how long they may be, and how they stand one behind another in the network's output
// channel. Each has its length in front of it (two bytes, little-endian), so that the channel's hash covers
// where one ends.
#pragma once

#include <span>

#include "log/event.h"

namespace lockstep {

constexpr size_t kFrameBytesMin = 14;  // two addresses and a type
constexpr size_t frame_bytes_max(uint16_t mtu) { return kFrameBytesMin + 4 + mtu; }  // and a VLAN's tag
constexpr size_t kFrameLengthBytes = 2;

inline void put_frame_length(Bytes& out, size_t length) {
  out.push_back(static_cast<uint8_t>(length));
  out.push_back(static_cast<uint8_t>(length >> 8));
}

// The first frame of `stream`, which begins behind it afterwards; empty when there is no whole one.
inline std::span<const uint8_t> next_frame(std::span<const uint8_t>& stream) {
  if (stream.size() < kFrameLengthBytes) return {};
  const size_t length = stream[0] | stream[1] << 8;
  if (stream.size() - kFrameLengthBytes < length) return {};
  const auto frame = stream.subspan(kFrameLengthBytes, length);
  stream = stream.subspan(kFrameLengthBytes + length);
  return frame;
}

}  // namespace lockstep
