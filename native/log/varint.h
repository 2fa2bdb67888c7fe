// Numbers as the log writes them, and a cursor that reads them from bytes nobody vouches for.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>

#include "log/event.h"

namespace lockstep {

// Small differences of either sign become small numbers.
constexpr uint64_t zigzag(uint64_t difference) { return (difference << 1) ^ (0 - (difference >> 63)); }
constexpr uint64_t unzigzag(uint64_t value) { return (value >> 1) ^ (0 - (value & 1)); }

inline void put_varint(Bytes& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<uint8_t>(value) | 0x80);
  out.push_back(static_cast<uint8_t>(value));
}

// Little-endian, the low `count` bytes.
inline void put_fixed(Bytes& out, uint64_t value, size_t count) {
  uint8_t bytes[8];
  memcpy(bytes, &value, sizeof bytes);
  out.insert(out.end(), bytes, bytes + count);
}

// Reads on and on; once something is wrong it stays wrong and reads zeros, so that a parser checks once at
// its end. `short_of_bytes` alone means that more bytes could make it right.
class Cursor {
 public:
  explicit Cursor(std::span<const uint8_t> bytes)
      : begin_(bytes.data()), at_(begin_), end_(begin_ + bytes.size()) {}

  size_t used() const { return static_cast<size_t>(at_ - begin_); }
  size_t left() const { return static_cast<size_t>(end_ - at_); }
  bool good() const { return problem_ == nullptr; }
  bool short_of_bytes() const { return short_; }
  const char* problem() const { return problem_; }

  void fail(const char* problem) {
    if (problem_ == nullptr) problem_ = problem;
    at_ = end_;
  }
  void fail_short() {
    short_ |= problem_ == nullptr;
    fail("it ends in the middle of a record");
  }

  uint64_t fixed(size_t count) {
    if (left() < count) return fail_short(), 0;
    uint64_t value = 0;
    memcpy(&value, at_, count);
    at_ += count;
    return value;
  }
  uint8_t byte() { return static_cast<uint8_t>(fixed(1)); }
  // The next byte, which stays; 0 when there is none.
  uint8_t peek() const { return at_ < end_ ? *at_ : 0; }

  uint64_t varint() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const uint64_t next = byte();
      if (shift == 63 && next > 1) break;
      value |= (next & 0x7f) << shift;
      if (next < 0x80) return value;
    }
    return fail("a number is too long"), 0;
  }

  // Borrowed; empty when there are not so many.
  std::span<const uint8_t> bytes(uint64_t count) {
    if (left() < count) return fail_short(), std::span<const uint8_t>();
    at_ += count;
    return {at_ - count, static_cast<size_t>(count)};
  }

 private:
  const uint8_t* begin_;
  const uint8_t* at_;
  const uint8_t* end_;
  const char* problem_ = nullptr;
  bool short_ = false;
};

}  // namespace lockstep
