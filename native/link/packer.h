// What waits for a slow link, compressed: one zstd stream for each connection, flushed after each piece, so
// that each can be read at once and later ones are made of what earlier ones said.
#pragma once

#include <memory>
#include <span>

#include "log/event.h"

namespace lockstep {

constexpr size_t kPieceBytesMax = 128 * 1024;  // before compression

class Packer {
 public:
  Packer();
  ~Packer();
  Bytes pack(std::span<const uint8_t> piece);

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

class Unpacker {
 public:
  Unpacker();
  ~Unpacker();
  // Appends the `plain_bytes`, at most kPieceBytesMax, that are in `packed`. Throws ERR_LOCKSTEP_LINK_DAMAGED
  // when it has fewer, more, or none.
  void unpack(std::span<const uint8_t> packed, size_t plain_bytes, Bytes* into);

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

}  // namespace lockstep
