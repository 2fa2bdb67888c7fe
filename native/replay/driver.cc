#include "replay/driver.h"

#include "guest/abi.h"

namespace lockstep {

void Progression::count(const Access& access) {
  accesses++;
  accesses_total++;
  uint64_t what = access.address | static_cast<uint64_t>(access.size) << 48 |
                  static_cast<uint64_t>(access.space) << 56 | static_cast<uint64_t>(access.write) << 60;
  // Multiply-and-fold: the high bits, which the log keeps, depend on every access so far.
  hash = (hash ^ what) * 0x9e3779b97f4a7c15ull;
  hash ^= hash >> 29;
  if (access.write) hash = (hash ^ access.value) * 0xbf58476d1ce4e5b9ull;
  hash ^= hash >> 32;
  hash *= 0x94d049bb133111ebull;
}

void Progression::apply(const Event& event) {
  lsn = event.lsn;
  accesses = 0;
  if (event.time_us) time_us = *event.time_us;
  for (const Input& input : event.inputs) {
    if (input.channel != LS_CH_CONSOLE && input.kind != InputKind::kSerial) continue;
    if (input.kind == InputKind::kData || input.kind == InputKind::kSerial) input_bytes += input.bytes.size();
    if (input.kind == InputKind::kEof) input_ended = true;
  }
}

void Progression::apply(const Checkpoint& checkpoint) {
  lsn = checkpoint.lsn;
  accesses = 0;
  time_us = checkpoint.time_us;
}

}  // namespace lockstep
