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
  position_ = at.accesses_total;
  lsn_ = at.lsn;
  uint64_t now = monotonic_us();
  if (!batch_started_us_) batch_started_us_ = now;
  if (now - batch_started_us_ < kBatchUs && entries_.size() < entries_max_ / 2) return;
  add_pages();
  send();
}

Tracer::~Tracer() {
  add_pages();
  send();
}

void Tracer::add_pages() {
  if (!pages_) return;
  for (uint64_t page : pages_()) add({position_, lsn_, page, 0, kDirtyPage, 0});
}

void Tracer::send() {
  batch_started_us_ = 0;
  if (entries_.empty() && !dropped_) return;
  flush_(std::exchange(entries_, {}), std::exchange(dropped_, 0));
}

}  // namespace lockstep
