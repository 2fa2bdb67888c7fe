// Memory that begins as an image, and tells which of its pages were touched: by the guest, by KVM for it, or
// by the monitor, each when it first was. What learns the order in which a program needs its image asks here.
#pragma once

#include <mutex>
#include <unordered_set>

#include "memory/memory_source.h"
#include "memory/page_faults.h"

namespace lockstep {

class TracedImage : public MemorySource, private PageSource {
 public:
  TracedImage(const Image& image, bool confined);  // whole; outlives this

  void provide(GuestMemory& memory) override;
  // Numbers of pages, in the order of their first touch, each once. Any thread.
  std::vector<uint64_t> touched_pages() const;
  // What a page counts in a MemoryDigest while nobody has touched it, and what all of them add up to.
  uint64_t first_term(uint64_t page);
  uint64_t memory_sum();

 private:
  size_t read(uint64_t gpa, std::span<uint8_t> to) override;
  void touched(uint64_t gpa) override;
  std::vector<GuestRange> ranges() const;

  const Image& image_;
  const bool confined_;
  std::vector<ImageSegment> segments_;  // by address
  mutable std::mutex mutex_;
  std::vector<uint64_t> pages_;
  std::unordered_set<uint64_t> seen_;
  std::unique_ptr<PageFaults> faults_;  // last: its thread asks all of the above
};

}  // namespace lockstep
