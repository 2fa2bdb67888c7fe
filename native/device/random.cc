#include "device/random.h"

#include <bit>

namespace lockstep {

Random::Random(std::span<const uint8_t, 32> seed) { std::memcpy(key_.data(), seed.data(), 32); }

void Random::refill() {
  std::array<uint32_t, 16> start{0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};
  for (int i = 0; i < 8; i++) start[4 + i] = key_[i];
  start[12] = static_cast<uint32_t>(block_);
  start[13] = static_cast<uint32_t>(block_ >> 32);
  auto x = start;
  auto quarter = [&x](int a, int b, int c, int d) {
    x[a] += x[b], x[d] = std::rotl(x[d] ^ x[a], 16);
    x[c] += x[d], x[b] = std::rotl(x[b] ^ x[c], 12);
    x[a] += x[b], x[d] = std::rotl(x[d] ^ x[a], 8);
    x[c] += x[d], x[b] = std::rotl(x[b] ^ x[c], 7);
  };
  for (int round = 0; round < 10; round++) {
    for (int i = 0; i < 4; i++) quarter(i, 4 + i, 8 + i, 12 + i);
    for (int i = 0; i < 4; i++) quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4);
  }
  for (int i = 0; i < 16; i++) x[i] += start[i];
  std::memcpy(stream_.data(), x.data(), 64);
  block_++;
  used_ = 0;
}

void Random::fill(std::span<uint8_t> out) {
  for (uint8_t& byte : out) {
    if (used_ == stream_.size()) refill();
    byte = stream_[used_++];
  }
}

uint64_t Random::read(const Access& access) {
  uint64_t value = 0;
  fill({reinterpret_cast<uint8_t*>(&value), access.size});
  return value;
}

void Random::save(StateWriter& out) const {
  out.put(block_);
  out.put(used_);
}

void Random::restore(StateReader& in) {
  uint64_t block;
  uint32_t used;
  in.get(block);
  in.get(used);
  block_ = block ? block - 1 : 0;
  if (block) refill();
  used_ = used <= 64 ? used : 64;
}

}  // namespace lockstep
