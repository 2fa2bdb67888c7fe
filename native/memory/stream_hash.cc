#include "memory/stream_hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

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

}  // namespace lockstep
