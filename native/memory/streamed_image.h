// Memory that begins as an image which is still on its way. Its pages come out of the image's file as they
// are touched or arrive; who touches one that is not there yet stands still, and its block is wanted.
#pragma once

#include <memory>
#include <optional>

#include "memory/block_store.h"
#include "memory/memory_source.h"
#include "memory/page_faults.h"

namespace lockstep {

class StreamedImage : public MemorySource, private PageSource, private BlockStore::Listener {
 public:
  // `never_waits`: the thread by way of which blocks arrive. `cancelled` ends the waiting of others; `failed`
  // hears, once, that the file cannot be read.
  StreamedImage(std::shared_ptr<BlockStore> store, bool confined, std::thread::id never_waits,
                std::function<bool()> cancelled, std::function<void(const Failure&)> failed);
  ~StreamedImage() override;

  void provide(GuestMemory& memory) override;
  // What the page counts in a MemoryDigest, as it is in the image.
  uint64_t first_term(uint64_t page) const;
  // Whether all of these pages have arrived.
  bool is_here(uint64_t gpa, uint64_t bytes) const { return !first_missing(gpa, bytes); }
  // The machine is over, and its vCPU was told so (PageFaults::release).
  void release() {
    if (faults_) faults_->release();
  }
  uint64_t computes_since_us(uint64_t since_us) const {
    return faults_ ? faults_->computes_since_us(since_us) : since_us;
  }
  // All of the memory is there and like any other.
  bool is_complete() const { return faults_ && faults_->is_complete(); }

  // Blocks that provide() waits for, where it may.
  static std::vector<uint64_t> needed_first(const Image& image);

 private:
  size_t read(uint64_t gpa, std::span<uint8_t> to) override;
  void arrived(uint64_t block) override;
  void gate(uint64_t gpa, uint64_t bytes) const;
  void wait_for(uint64_t block) const;
  std::optional<uint64_t> first_missing(uint64_t gpa, uint64_t bytes) const;  // block
  void index_blocks();
  uint64_t block_of(uint64_t file_offset) const;
  const ImageSegment* segment_at(uint64_t gpa) const;  // the one with this page, or null

  std::shared_ptr<BlockStore> store_;
  const Image& image_;
  const bool confined_;
  const std::thread::id never_waits_;
  const std::function<bool()> cancelled_;
  const std::function<void(const Failure&)> failed_;
  bool told_ = false;
  std::vector<ImageSegment> segments_;  // ascending, of those that begin with a page
  // Which segments hold a block's content: `users_` from `first_user_[block]` to that of the next.
  std::vector<uint32_t> first_user_, users_;
  std::unique_ptr<PageFaults> faults_;
};

// What the pages of this image add up to in a MemoryDigest, once they are in memory.
uint64_t image_memory_sum(const Image& image,
                          const std::function<void(uint64_t file_offset, std::span<uint8_t>)>& read);

}  // namespace lockstep
