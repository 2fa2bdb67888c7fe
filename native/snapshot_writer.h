// Writes the memory of a machine that stands still as an image: pages of zeros not at all, equal pages once.
#pragma once

#include "kvm/system.h"
#include "memory/guest_memory.h"
#include "snapshot.h"

namespace lockstep {

// A file that appears at its path only when it is whole. Otherwise nothing is left of it.
class SnapshotFile {
 public:
  // Mode 0600. Throws ERR_LOCKSTEP_INVALID_ARGUMENT where the path is taken and `force` is off, and as
  // write().
  SnapshotFile(std::string path, bool force);
  ~SnapshotFile();
  SnapshotFile(const SnapshotFile&) = delete;
  // Throws ERR_LOCKSTEP_DISK_FULL or ERR_LOCKSTEP_SYSTEM.
  void write(std::span<const uint8_t> bytes, uint64_t offset);
  void appear();

 private:
  [[noreturn]] void fail(const char* operation) const;
  std::string path_, part_;
  bool force_;
  Fd file_;
};

// Which pages there are, which are equal, and what they hash to: one reading of all memory that was touched.
class PageSurvey {
 public:
  explicit PageSurvey(const GuestMemory& memory);
  uint64_t digest() const { return digest_; }  // MemoryDigest::value() of it
  std::vector<uint64_t> take_hashes() { return std::move(hashes_); }

  uint64_t content_bytes() const { return content_.size() * kPageBytes; }
  // The content in blocks, and behind it, when their hashes are known, the front.
  void write(SnapshotFile& file, const std::string& manifest, std::span<const uint8_t> state);

 private:
  void add(uint64_t page, uint64_t offset);
  ImageHeader header() const;
  Bytes write_content(SnapshotFile& file, uint64_t offset) const;
  const GuestMemory& memory_;
  std::vector<ImageSegment> segments_;
  std::vector<uint64_t> content_;  // the pages that stand in it, in order
  std::vector<uint64_t> hashes_;   // of every page that is not zero
  uint64_t digest_ = 0;
};

}  // namespace lockstep
