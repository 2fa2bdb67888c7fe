#include "memory/stream_hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "device/state_stream.h"

namespace lockstep {

struct StreamHash::State {
  XXH3_state_t xxh;
};

StreamHash::StreamHash() : state_(std::make_unique<State>()) { XXH3_64bits_reset(&state_->xxh); }
StreamHash::~StreamHash() = default;
void StreamHash::add(std::span<const uint8_t> bytes) {
  XXH3_64bits_update(&state_->xxh, bytes.data(), bytes.size());
}
uint64_t StreamHash::value() const { return XXH3_64bits_digest(&state_->xxh); }

// Only what adding bytes changes: the rest of the library's structure is as a reset leaves it, and holds a
// pointer.
StreamHash::Saved StreamHash::save() const {
  const XXH3_state_t& xxh = state_->xxh;
  StateWriter out;
  for (uint64_t lane : xxh.acc) out.put(lane);
  out.put_bytes(xxh.buffer);
  out.put<uint32_t>(xxh.bufferedSize);
  out.put<uint64_t>(xxh.nbStripesSoFar);
  out.put<uint64_t>(xxh.totalLen);
  return out.bytes();
}

void StreamHash::restore(const Saved& saved) {
  XXH3_state_t& xxh = state_->xxh;
  XXH3_64bits_reset(&xxh);
  StateReader in(saved);
  for (auto& lane : xxh.acc) {
    uint64_t value;
    in.get(value);
    lane = value;
  }
  const Bytes buffer = in.get_bytes();
  uint32_t buffered;
  uint64_t stripes, total;
  in.get(buffered);
  in.get(stripes);
  in.get(total);
  in.check_end();
  if (buffer.size() != sizeof xxh.buffer || buffered > sizeof xxh.buffer || buffered > total ||
      stripes >= xxh.nbStripesPerBlock)
    throw Failure("ERR_LOCKSTEP_STATE_DAMAGED", "a running hash cannot be one");
  std::memcpy(xxh.buffer, buffer.data(), buffer.size());
  xxh.bufferedSize = buffered;
  xxh.nbStripesSoFar = stripes;
  xxh.totalLen = total;
}

}  // namespace lockstep
