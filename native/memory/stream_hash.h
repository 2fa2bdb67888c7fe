// A running XXH3 of a byte stream.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

namespace lockstep {

class StreamHash {
 public:
  StreamHash();
  ~StreamHash();
  void add(std::span<const uint8_t> bytes);
  uint64_t value() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lockstep
