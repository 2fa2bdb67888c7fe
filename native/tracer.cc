#include "tracer.h"

#include <algorithm>

#include "replay/recorder.h"

namespace lockstep {

void Tracer::add(const TraceEntry& entry) {
  if (entries_.size() < entries_max_)
    entries_.push_back(entry);
  else
    dropped_++;
}

void Tracer::access(const Progression& at, const Access& access) {
  if (exits_)
    add({at.accesses_total, at.lsn, access.address, access.value, static_cast<uint32_t>(access.space),
         access.size | static_cast<uint32_t>(access.write) << 8});
  uint64_t now = monotonic_us();
  if (!batch_started_us_) batch_started_us_ = now;
  if (now - batch_started_us_ < kBatchUs && entries_.size() < entries_max_ / 2) return;
  if (pages_)
    for (uint64_t page : pages_()) add({at.accesses_total, at.lsn, page, 0, kDirtyPage, 0});
  send();
}

void Tracer::send() {
  batch_started_us_ = 0;
  if (entries_.empty() && !dropped_) return;
  flush_(std::exchange(entries_, {}), std::exchange(dropped_, 0));
}

}  // namespace lockstep
