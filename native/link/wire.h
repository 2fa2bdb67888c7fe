// Little-endian fields in and out of byte strings, for the link and for the console protocol.
#pragma once

#include <cstring>
#include <span>
#include <string>

#include "log/event.h"

namespace lockstep {

class WireWriter {
 public:
  explicit WireWriter(Bytes* out) : out_(out) {}
  void u8(uint8_t v) { out_->push_back(v); }
  void u16(uint16_t v) { integer(v, 2); }
  void u32(uint32_t v) { integer(v, 4); }
  void u64(uint64_t v) { integer(v, 8); }
  void bytes(std::span<const uint8_t> b) { out_->insert(out_->end(), b.begin(), b.end()); }
  // Texts are messages for people and ids: what does not fit is cut off.
  void text8(const std::string& s) { text(s, std::min<size_t>(s.size(), 0xff), 1); }
  void text16(const std::string& s) { text(s, std::min<size_t>(s.size(), 2000), 2); }

 private:
  void integer(uint64_t v, int size) {
    for (int i = 0; i < size; i++) out_->push_back(static_cast<uint8_t>(v >> (8 * i)));
  }
  void text(const std::string& s, size_t length, int size) {
    integer(length, size);
    out_->insert(out_->end(), s.begin(), s.begin() + static_cast<ptrdiff_t>(length));
  }
  Bytes* out_;
};

// Reading past the end yields zeros and makes done() false, so a parser checks once, at its end.
class WireReader {
 public:
  explicit WireReader(std::span<const uint8_t> bytes) : rest_(bytes) {}
  uint8_t u8() { return static_cast<uint8_t>(integer(1)); }
  uint16_t u16() { return static_cast<uint16_t>(integer(2)); }
  uint32_t u32() { return static_cast<uint32_t>(integer(4)); }
  uint64_t u64() { return integer(8); }
  std::string text8() { return text(u8()); }
  std::string text16() { return text(u16()); }
  std::span<const uint8_t> all() { return take(rest_.size()); }
  bool good() const { return good_; }
  bool done() const { return good_ && rest_.empty(); }

 private:
  uint64_t integer(size_t size) {
    uint64_t v = 0;
    auto b = take(size);
    for (size_t i = 0; i < b.size(); i++) v |= static_cast<uint64_t>(b[i]) << (8 * i);
    return v;
  }
  std::string text(size_t size) {
    auto b = take(size);
    return {b.begin(), b.end()};
  }
  std::span<const uint8_t> take(size_t size) {
    if (size > rest_.size()) {
      good_ = false;
      rest_ = {};
      return {};
    }
    auto taken = rest_.first(size);
    rest_ = rest_.subspan(size);
    return taken;
  }
  std::span<const uint8_t> rest_;
  bool good_ = true;
};

}  // namespace lockstep
