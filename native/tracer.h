// Collects accesses and dirtied pages for whoever traces, in batches; what does not fit is dropped and
// counted.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "replay/driver.h"

namespace lockstep {

struct TraceEntry {
  uint64_t position;  // accesses since boot
  uint64_t lsn;
  uint64_t address;  // port or physical address; a page's number for dirty pages
  uint64_t value;
  uint32_t kind;   // Space, or kDirtyPage
  uint32_t flags;  // size | write << 8
};
constexpr uint32_t kDirtyPage = 3;

class Tracer {
 public:
  using Flush = std::function<void(std::vector<TraceEntry> entries, uint64_t dropped)>;
  // `entries_max`: of one batch; `pages` harvests pages dirtied since the last call (empty: not traced).
  Tracer(bool exits, std::function<std::vector<uint64_t>()> pages, size_t entries_max, Flush flush)
      : exits_(exits), pages_(std::move(pages)), entries_max_(entries_max), flush_(std::move(flush)) {}
  ~Tracer();
  void access(const Progression& at, const Access& access);

 private:
  void send();
  void add_pages();
  void add(const TraceEntry& entry);
  static constexpr uint64_t kBatchUs = 50'000;
  bool exits_;
  std::function<std::vector<uint64_t>()> pages_;
  size_t entries_max_;
  Flush flush_;
  std::vector<TraceEntry> entries_;
  uint64_t dropped_ = 0;
  uint64_t batch_started_us_ = 0;
  uint64_t position_ = 0, lsn_ = 0;  // of the last access
};

}  // namespace lockstep
