// Device state to bytes and back; the same bytes are hashed into digests.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

#include "error.h"
#include "log/event.h"

namespace lockstep {

class StateWriter {
 public:
  template <typename T>
  void put(const T& value) {
    static_assert(std::is_integral_v<T> || std::is_enum_v<T>);
    auto* bytes = reinterpret_cast<const uint8_t*>(&value);
    bytes_.insert(bytes_.end(), bytes, bytes + sizeof value);
  }
  void put_bytes(std::span<const uint8_t> bytes) {
    put<uint64_t>(bytes.size());
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }
  const Bytes& bytes() const { return bytes_; }

 private:
  Bytes bytes_;
};

class StateReader {
 public:
  explicit StateReader(std::span<const uint8_t> bytes) : bytes_(bytes) {}
  template <typename T>
  void get(T& value) {
    static_assert(std::is_integral_v<T> || std::is_enum_v<T>);
    if constexpr (std::is_same_v<T, bool>) {
      value = take(1)[0] != 0;
    } else {
      std::memcpy(&value, take(sizeof value).data(), sizeof value);
    }
  }
  void check_end() const {
    if (!bytes_.empty()) throw Failure("ERR_LOCKSTEP_STATE_DAMAGED", "something follows the machine's state");
  }
  Bytes get_bytes() {
    uint64_t length;
    get(length);
    auto part = take(length);
    return {part.begin(), part.end()};
  }

 private:
  std::span<const uint8_t> take(size_t length) {
    if (length > bytes_.size())
      throw Failure("ERR_LOCKSTEP_STATE_DAMAGED", "the machine's state is too short");
    auto part = bytes_.first(length);
    bytes_ = bytes_.subspan(length);
    return part;
  }
  std::span<const uint8_t> bytes_;
};

}  // namespace lockstep
