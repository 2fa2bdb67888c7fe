// A running XXH3 of a byte stream.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "log/event.h"

namespace lockstep {

class StreamHash {
 public:
  using Saved = Bytes;
  StreamHash();
  ~StreamHash();
  void add(std::span<const uint8_t> bytes);
  uint64_t value() const;
  // To go on hashing elsewhere. restore() throws ERR_LOCKSTEP_STATE_DAMAGED.
  Saved save() const;
  void restore(const Saved& saved);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lockstep
