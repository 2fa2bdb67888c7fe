#include "snapshot_writer.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <unordered_map>

#include "memory/digest.h"
#include "sha256.h"

namespace lockstep {

// ---- the file

namespace {

std::string random_suffix() {
  std::random_device device;
  char text[16];
  std::snprintf(text, sizeof text, ".%08x.part", device());
  return text;
}

}  // namespace

SnapshotFile::SnapshotFile(std::string path, bool force)
    : path_(std::move(path)), part_(path_ + random_suffix()), force_(force) {
  struct stat status;
  if (!force_ && lstat(path_.c_str(), &status) == 0)
    throw Failure("ERR_LOCKSTEP_INVALID_ARGUMENT", path_ + " exists already", "use another name, or force",
                  "open", EEXIST);
  file_ = Fd(open(part_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, 0600));
  if (!file_) {
    part_.clear();
    fail("open");
  }
}

SnapshotFile::~SnapshotFile() {
  if (!part_.empty()) unlink(part_.c_str());
}

void SnapshotFile::fail(const char* operation) const {
  const bool full = errno == ENOSPC || errno == EDQUOT;
  throw_system(full ? "ERR_LOCKSTEP_DISK_FULL" : "ERR_LOCKSTEP_SYSTEM", operation,
               "cannot write " + path_ + ", and nothing of it was left");
}

void SnapshotFile::write(std::span<const uint8_t> bytes, uint64_t offset) {
  while (!bytes.empty()) {
    const ssize_t done = pwrite(file_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) fail("write");
    bytes = bytes.subspan(static_cast<size_t>(done));
    offset += static_cast<uint64_t>(done);
  }
}

void SnapshotFile::appear() {
  // Some file systems tell only here that the disk was full.
  if (fsync(file_.get()) != 0) fail("fsync");
  // Somebody may have taken the name meanwhile. Where the file system cannot tell, the look before has to do.
  const unsigned flags = force_ ? 0 : RENAME_NOREPLACE;
  int failed = renameat2(AT_FDCWD, part_.c_str(), AT_FDCWD, path_.c_str(), flags);
  if (failed && flags && errno == EINVAL) failed = rename(part_.c_str(), path_.c_str());
  if (failed) fail("rename");
  part_.clear();
}

// ---- what goes into it

PageSurvey::PageSurvey(const GuestMemory& memory) : memory_(memory) {
  std::unordered_map<uint64_t, uint64_t> known;  // hash of the contents: place in the content
  for (const uint64_t page : touched_pages(memory)) {
    const auto bytes = memory.view(page * kPageBytes, kPageBytes);
    const uint64_t hash = hash_bytes(bytes), term = MemoryDigest::term(hash, page);
    if (term == 0) continue;
    hashes_.push_back(term);
    digest_ += term;
    const auto [found, is_new] = known.try_emplace(hash, content_.size());
    const uint64_t place = found->second;
    const auto same = [&] {
      const auto other = memory.view(content_[place] * kPageBytes, kPageBytes);
      return std::memcmp(bytes.data(), other.data(), kPageBytes) == 0;
    };
    if (!is_new && same()) {
      add(page, place * kPageBytes);
    } else {
      add(page, content_.size() * kPageBytes);
      content_.push_back(page);
    }
  }
}

void PageSurvey::add(uint64_t page, uint64_t offset) {
  const uint64_t gpa = page * kPageBytes;
  if (!segments_.empty()) {
    ImageSegment& last = segments_.back();
    if (last.gpa + last.bytes == gpa && last.file_offset + last.bytes == offset) {
      last.bytes += kPageBytes;
      return;
    }
  }
  segments_.push_back({gpa, kPageBytes, offset});
}

ImageHeader PageSurvey::header() const {
  ImageHeader header{};
  header.mode = static_cast<uint32_t>(StartMode::kSnapshot);
  header.memory_bytes = memory_.bytes();
  header.content_bytes = content_.size() * kPageBytes;
  header.block_bytes = kImageBlockBytes;
  return header;
}

Bytes PageSurvey::write_content(SnapshotFile& file, uint64_t offset) const {
  constexpr size_t kPagesOfBlock = kImageBlockBytes / kPageBytes;
  Bytes block, hashes;
  for (size_t at = 0; at < content_.size(); at += kPagesOfBlock) {
    block.clear();
    for (size_t i = at; i < std::min(at + kPagesOfBlock, content_.size()); i++) {
      const auto page = memory_.view(content_[i] * kPageBytes, kPageBytes);
      block.insert(block.end(), page.begin(), page.end());
    }
    const auto hash = sha256(block);
    hashes.insert(hashes.end(), hash.begin(), hash.end());
    file.write(block, offset);
    offset += block.size();
  }
  return hashes;
}

void PageSurvey::write(SnapshotFile& file, const std::string& manifest, std::span<const uint8_t> state) {
  const size_t blocks = (content_.size() * kPageBytes + kImageBlockBytes - 1) / kImageBlockBytes;
  // Where the content goes does not depend on what it hashes to.
  const Bytes room =
      encode_image_front(header(), segments_, manifest, state, Bytes(blocks * kBlockHashBytes));
  const Bytes hashes = write_content(file, room.size());
  file.write(encode_image_front(header(), segments_, manifest, state, hashes), 0);
}

}  // namespace lockstep
