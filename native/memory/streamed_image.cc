#include "memory/streamed_image.h"

#include <algorithm>
#include <cstring>

#include "guest/abi.h"
#include "memory/digest.h"

namespace lockstep {

namespace {

// Registered as one, with what lies between: each range of its own costs the host a mapping.
constexpr uint64_t kGapMax = 64 * 1024;
constexpr size_t kPagesAtOnce = 8;

uint64_t page_floor(uint64_t at) { return at / kPageBytes * kPageBytes; }
uint64_t page_ceiling(uint64_t at) { return page_floor(at + kPageBytes - 1); }
uint64_t end_of(const ImageSegment& segment) { return segment.gpa + segment.bytes; }
bool begins_with_a_page(const ImageSegment& segment) { return segment.gpa % kPageBytes == 0; }

}  // namespace

StreamedImage::StreamedImage(std::shared_ptr<BlockStore> store, bool confined, std::thread::id never_waits,
                             std::function<bool()> cancelled, std::function<void(const Failure&)> failed)
    : store_(std::move(store)),
      image_(store_->image()),
      confined_(confined),
      never_waits_(never_waits),
      cancelled_(std::move(cancelled)),
      failed_(std::move(failed)) {}

StreamedImage::~StreamedImage() { store_->remove(this); }

uint64_t StreamedImage::block_of(uint64_t file_offset) const {
  return (file_offset - image_.header.content_offset) / image_.header.block_bytes;
}

// What is written while the machine is made, and what the monitor looks at from the thread that brings
// blocks: segments that begin within a page, with what shares it; of a program's image the guest kernel's
// header and the boot block, in which a snapshot may get another seed; of other images that boot, where
// segments begin and end.
std::vector<uint64_t> StreamedImage::needed_first(const Image& image) {
  const ImageHeader& header = image.header;
  const auto mode = static_cast<StartMode>(header.mode);
  std::vector<uint64_t> blocks, pages = {LS_GPA_BOOT};
  if (mode != StartMode::kSnapshot) pages.push_back(LS_GPA_KERNEL);
  for (const ImageSegment& segment : image.segments)
    if (!begins_with_a_page(segment)) pages.push_back(page_floor(segment.gpa));
  const bool bare = mode == StartMode::kReal || mode == StartMode::kLong;
  for (const ImageSegment& segment : image.segments) {
    if (segment.bytes == 0) continue;
    const uint64_t from = segment.file_offset - header.content_offset;
    const auto need = [&](uint64_t done) { blocks.push_back((from + done) / header.block_bytes); };
    const auto touches = [&](uint64_t page) {
      return page < end_of(segment) && segment.gpa < page + kPageBytes;
    };
    if (!begins_with_a_page(segment))
      for (uint64_t done = 0; done < segment.bytes; done += kPageBytes) need(done);
    if (bare || !begins_with_a_page(segment)) {
      need(0);
      need(segment.bytes - 1);
    }
    for (uint64_t page : pages)
      if (touches(page)) need(std::max(page, segment.gpa) - segment.gpa);
  }
  std::sort(blocks.begin(), blocks.end());
  blocks.erase(std::unique(blocks.begin(), blocks.end()), blocks.end());
  return blocks;
}

void StreamedImage::provide(GuestMemory& memory) {
  check_room(image_, memory);
  for (uint64_t block : needed_first(image_)) wait_for(block);
  for (const ImageSegment& segment : image_.segments)
    if (begins_with_a_page(segment) && segment.bytes > 0) segments_.push_back(segment);
  std::sort(segments_.begin(), segments_.end(),
            [](const ImageSegment& a, const ImageSegment& b) { return a.gpa < b.gpa; });
  index_blocks();

  std::vector<GuestRange> ranges;
  for (const ImageSegment& segment : segments_) {
    const uint64_t end = page_ceiling(end_of(segment));
    if (!ranges.empty() && segment.gpa <= ranges.back().gpa + ranges.back().bytes + kGapMax)
      ranges.back().bytes = end - ranges.back().gpa;
    else
      ranges.push_back({segment.gpa, end - segment.gpa});
  }
  for (const GuestRange& range : ranges) memory.expect({range.gpa / kPageBytes, range.bytes / kPageBytes});
  PageSource& source = *this;
  if (!ranges.empty())
    faults_ = std::make_unique<PageFaults>(memory, source, std::move(ranges), kPagesAtOnce, confined_);
  memory.set_gate([this](uint64_t gpa, uint64_t bytes) { gate(gpa, bytes); });
  for (const ImageSegment& segment : image_.segments) {
    if (begins_with_a_page(segment)) continue;
    Bytes bytes(segment.bytes);
    store_->read(segment.file_offset, bytes);
    memory.write(segment.gpa, bytes);
  }
  store_->add(this);
  if (faults_ && store_->missing() == 0) faults_->complete();
}

void StreamedImage::index_blocks() {
  first_user_.assign(image_.header.block_count + 1, 0);
  const auto each = [this](auto&& use) {
    for (uint32_t i = 0; i < segments_.size(); i++) {
      const ImageSegment& s = segments_[i];
      const uint64_t last = block_of(s.file_offset + s.bytes - 1);
      for (uint64_t block = block_of(s.file_offset); block <= last; block++) use(block, i);
    }
  };
  each([this](uint64_t block, uint32_t) { first_user_[block + 1]++; });
  for (size_t block = 1; block < first_user_.size(); block++) first_user_[block] += first_user_[block - 1];
  users_.resize(first_user_.back());
  std::vector<uint32_t> next = first_user_;
  each([this, &next](uint64_t block, uint32_t i) { users_[next[block]++] = i; });
}

const ImageSegment* StreamedImage::segment_at(uint64_t gpa) const {
  auto behind = std::upper_bound(segments_.begin(), segments_.end(), gpa,
                                 [](uint64_t at, const ImageSegment& segment) { return at < segment.gpa; });
  if (behind == segments_.begin()) return nullptr;
  const ImageSegment& segment = *--behind;
  return gpa < page_ceiling(end_of(segment)) ? &segment : nullptr;
}

// One run of pages: of one segment, as far as its blocks are here, or of what lies between two.
size_t StreamedImage::read(uint64_t gpa, std::span<uint8_t> to) {
  const ImageSegment* segment = segment_at(gpa);
  if (!segment) {
    size_t bytes = kPageBytes;
    while (bytes < to.size() && !segment_at(gpa + bytes)) bytes += kPageBytes;
    std::memset(to.data(), 0, bytes);
    return bytes;
  }
  const uint64_t pages_end = std::min<uint64_t>(page_ceiling(end_of(*segment)), gpa + to.size());
  const uint64_t from = segment->file_offset + (gpa - segment->gpa);
  uint64_t until = from;  // of the file, as far as it is here
  const uint64_t end = segment->file_offset + (std::min(end_of(*segment), pages_end) - segment->gpa);
  while (until < end && store_->has(block_of(until))) {
    const uint64_t block_end =
        image_.header.content_offset + (block_of(until) + 1) * image_.header.block_bytes;
    until = std::min(end, block_end);
  }
  if (until == from) {
    store_->want(block_of(from));
    return 0;
  }
  const size_t bytes = page_ceiling(until - from);
  try {
    store_->read(from, to.first(until - from));
  } catch (const Failure& failure) {
    if (!told_) failed_(failure);
    told_ = true;
    return 0;
  }
  std::memset(to.data() + (until - from), 0, bytes - (until - from));
  return bytes;
}

void StreamedImage::arrived(uint64_t block) {
  if (!faults_) return;
  const uint64_t from = image_.header.content_offset + block * image_.header.block_bytes;
  const uint64_t until = from + image_.block_length(block);
  for (uint32_t i = first_user_[block]; i < first_user_[block + 1]; i++) {
    const ImageSegment& s = segments_[users_[i]];
    const uint64_t first = std::max(from, s.file_offset), last = std::min(until, s.file_offset + s.bytes);
    faults_->arrived({s.gpa + (first - s.file_offset), page_ceiling(last - first)});
  }
  if (store_->missing() == 0) faults_->complete();
}

// Whoever of the monitor's touches memory waits here and not in the host's kernel, where it could not be told
// to stop.
void StreamedImage::gate(uint64_t gpa, uint64_t bytes) const {
  while (const std::optional<uint64_t> block = first_missing(gpa, bytes)) wait_for(*block);
}

void StreamedImage::wait_for(uint64_t block) const {
  if (store_->has(block)) return;
  if (std::this_thread::get_id() == never_waits_)
    throw Failure("ERR_LOCKSTEP_NOT_ARRIVED", "this part of the machine's memory has not arrived yet",
                  "wait until it is there");
  if (!store_->wait_for(block, cancelled_))
    throw Failure("ERR_LOCKSTEP_CLOSED", "the machine was closed while it waited for a part of its memory");
}

std::optional<uint64_t> StreamedImage::first_missing(uint64_t gpa, uint64_t bytes) const {
  if (store_->missing() == 0) return std::nullopt;
  for (uint64_t page = page_floor(gpa); page < gpa + bytes; page += kPageBytes) {
    const ImageSegment* segment = segment_at(page);
    if (!segment) continue;
    const uint64_t block = block_of(segment->file_offset + (page - segment->gpa));
    if (!store_->has(block)) return block;
  }
  return std::nullopt;
}

namespace {

using ReadFile = std::function<void(uint64_t file_offset, std::span<uint8_t>)>;

uint64_t term_of(const ImageSegment& segment, uint64_t gpa, const ReadFile& read) {
  std::array<uint8_t, kPageBytes> bytes{};
  const uint64_t done = gpa - segment.gpa;
  read(segment.file_offset + done, std::span(bytes).first(std::min(kPageBytes, segment.bytes - done)));
  return MemoryDigest::term(hash_bytes(bytes), gpa / kPageBytes);
}

}  // namespace

uint64_t StreamedImage::first_term(uint64_t page) const {
  const ImageSegment* segment = segment_at(page * kPageBytes);
  if (!segment) return 0;
  return term_of(*segment, page * kPageBytes,
                 [this](uint64_t at, std::span<uint8_t> to) { store_->read(at, to); });
}

uint64_t image_memory_sum(const Image& image, const ReadFile& read) {
  uint64_t sum = 0;
  for (const ImageSegment& segment : image.segments) {
    if (!begins_with_a_page(segment)) continue;
    for (uint64_t gpa = segment.gpa; gpa < end_of(segment); gpa += kPageBytes)
      sum += term_of(segment, gpa, read);
  }
  return sum;
}

}  // namespace lockstep
