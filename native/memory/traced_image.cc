#include "memory/traced_image.h"

#include <algorithm>
#include <array>

#include "memory/digest.h"

namespace lockstep {

TracedImage::TracedImage(const Image& image, bool confined)
    : image_(image), confined_(confined), segments_(image.segments) {
  std::erase_if(segments_, [](const ImageSegment& segment) { return segment.bytes == 0; });
  std::sort(segments_.begin(), segments_.end(),
            [](const ImageSegment& a, const ImageSegment& b) { return a.gpa < b.gpa; });
}

void TracedImage::provide(GuestMemory& memory) {
  check_room(image_, memory);
  PageSource& source = *this;
  faults_ = std::make_unique<PageFaults>(memory, source, ranges(), 1, confined_);
}

std::vector<uint64_t> TracedImage::touched_pages() const {
  std::lock_guard lock(mutex_);
  return pages_;
}

void TracedImage::touched(uint64_t gpa) {
  // Two who touch a page at once are two faults.
  std::lock_guard lock(mutex_);
  if (seen_.insert(gpa / kPageBytes).second) pages_.push_back(gpa / kPageBytes);
}

uint64_t TracedImage::first_term(uint64_t page) {
  std::array<uint8_t, kPageBytes> contents;
  read(page * kPageBytes, contents);
  return MemoryDigest::term(hash_bytes(contents), page);
}

uint64_t TracedImage::memory_sum() {
  uint64_t sum = 0;
  for (const GuestRange& range : ranges())
    for (uint64_t gpa = range.gpa; gpa < range.gpa + range.bytes; gpa += kPageBytes)
      sum += first_term(gpa / kPageBytes);
  return sum;
}

// All pages that a segment lies in.
std::vector<GuestRange> TracedImage::ranges() const {
  std::vector<GuestRange> result;
  for (const ImageSegment& segment : segments_) {
    const uint64_t first = segment.gpa / kPageBytes * kPageBytes;
    const uint64_t end = (segment.gpa + segment.bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
    if (result.empty() || result.back().gpa + result.back().bytes < first)
      result.push_back({first, end - first});
    else
      result.back().bytes = end - result.back().gpa;
  }
  return result;
}

// One page, with all the segments that lie in it.
size_t TracedImage::read(uint64_t gpa, std::span<uint8_t> to) {
  std::fill(to.begin(), to.begin() + kPageBytes, 0);
  const uint64_t end = gpa + kPageBytes;
  auto segment = std::lower_bound(segments_.begin(), segments_.end(), gpa,
                                  [](const ImageSegment& s, uint64_t at) { return s.gpa + s.bytes <= at; });
  for (; segment != segments_.end() && segment->gpa < end; ++segment) {
    const uint64_t from = std::max(gpa, segment->gpa), until = std::min(end, segment->gpa + segment->bytes);
    const auto bytes = image_.file.subspan(segment->file_offset + (from - segment->gpa), until - from);
    std::copy(bytes.begin(), bytes.end(), to.begin() + static_cast<ptrdiff_t>(from - gpa));
  }
  return kPageBytes;
}

}  // namespace lockstep
