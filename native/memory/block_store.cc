#include "memory/block_store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>

namespace lockstep {

namespace {
constexpr std::chrono::milliseconds kLookAgain{50};
}

BlockStore::BlockStore(const std::string& path, Bytes front)
    : front_(std::move(front)), image_(parse_image_front(front_)), path_(path) {
  fd_ = Fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (fd_.get() < 0) throw_system("ERR_LOCKSTEP_SYSTEM", "open", "cannot write " + path);
  if (flock(fd_.get(), LOCK_EX | LOCK_NB))
    throw Failure("ERR_LOCKSTEP_STREAM_BUSY", "another process is streaming to " + path,
                  "wait for it, or stream to another file");
  struct stat status {};
  if (fstat(fd_.get(), &status)) throw_system("ERR_LOCKSTEP_SYSTEM", "fstat", path);
  const bool ours = static_cast<uint64_t>(status.st_size) == image_.file_bytes() && front_is(front_);
  if (!ours) {
    // The size comes last: a file of this size has its front.
    if (ftruncate(fd_.get(), 0)) throw_system("ERR_LOCKSTEP_SYSTEM", "ftruncate", path);
    write_all(0, front_);
    if (ftruncate(fd_.get(), static_cast<off_t>(image_.file_bytes())))
      throw_system("ERR_LOCKSTEP_SYSTEM", "ftruncate", path);
  }
  const uint64_t blocks = image_.header.block_count;
  there_ = std::make_unique<std::vector<std::atomic<bool>>>(blocks);
  wanted_.resize(blocks);
  missing_ = blocks;
}

bool BlockStore::front_is(std::span<const uint8_t> front) const {
  Bytes found(front.size());
  const ssize_t got = pread(fd_.get(), found.data(), found.size(), 0);
  return got == static_cast<ssize_t>(found.size()) && std::equal(found.begin(), found.end(), front.begin());
}

// Holes are passed over; what is not a hole has to prove itself.
void BlockStore::recover() {
  const ImageHeader& header = image_.header;
  Bytes bytes(header.block_bytes);
  const auto end = static_cast<off_t>(image_.file_bytes());
  for (uint64_t block = 0; block < header.block_count; block++) {
    const auto at = static_cast<off_t>(header.content_offset + block * header.block_bytes);
    const off_t data = lseek(fd_.get(), at, SEEK_DATA);
    if (data < 0 || data >= end) return;
    const uint64_t first = (static_cast<uint64_t>(data) - header.content_offset) / header.block_bytes;
    block = std::max(block, first);
    const std::span<uint8_t> part = std::span(bytes).first(image_.block_length(block));
    read(header.content_offset + block * header.block_bytes, part);
    if (image_.is_block(block, part)) mark(block);
  }
}

void BlockStore::mark(uint64_t block) {
  if (!(*there_)[block].exchange(true, std::memory_order_acq_rel)) missing_--;
}

bool BlockStore::put(uint64_t block, std::span<const uint8_t> bytes) {
  if (!image_.is_block(block, bytes)) return false;
  if (has(block)) return true;
  write_all(image_.header.content_offset + block * image_.header.block_bytes, bytes);
  mark(block);
  std::lock_guard lock(mutex_);
  arrival_.notify_all();
  for (Listener* listener : listeners_) listener->arrived(block);
  return true;
}

void BlockStore::write_all(uint64_t file_offset, std::span<const uint8_t> bytes) const {
  while (!bytes.empty()) {
    const ssize_t put = pwrite(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(file_offset));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0)
      throw_system(errno == ENOSPC || errno == EDQUOT ? "ERR_LOCKSTEP_DISK_FULL" : "ERR_LOCKSTEP_SYSTEM",
                   "pwrite", "cannot write " + path_);
    bytes = bytes.subspan(static_cast<size_t>(put));
    file_offset += static_cast<uint64_t>(put);
  }
}

void BlockStore::read(uint64_t file_offset, std::span<uint8_t> to) const {
  while (!to.empty()) {
    const ssize_t got = pread(fd_.get(), to.data(), to.size(), static_cast<off_t>(file_offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_system("ERR_LOCKSTEP_SYSTEM", "pread", "cannot read " + path_);
    if (got == 0) throw Failure("ERR_LOCKSTEP_SYSTEM", path_ + " was cut short while it was used");
    to = to.subspan(static_cast<size_t>(got));
    file_offset += static_cast<uint64_t>(got);
  }
}

void BlockStore::sync() const {
  if (fdatasync(fd_.get())) throw_system("ERR_LOCKSTEP_SYSTEM", "fdatasync", path_);
}

bool BlockStore::wait_for(uint64_t block, const std::function<bool()>& cancelled) {
  if (has(block)) return true;
  want(block);
  std::unique_lock lock(mutex_);
  while (!has(block)) {
    if (cancelled()) return false;
    arrival_.wait_for(lock, kLookAgain);
  }
  return true;
}

void BlockStore::want(uint64_t block) {
  std::lock_guard lock(mutex_);
  if (has(block) || wanted_[block]) return;
  wanted_[block] = true;
  wanted_count_++;
  if (tell_wanted_) tell_wanted_(block);
}

void BlockStore::on_wanted(std::function<void(uint64_t)> tell) {
  std::lock_guard lock(mutex_);
  tell_wanted_ = std::move(tell);
}

void BlockStore::add(Listener* listener) {
  std::lock_guard lock(mutex_);
  listeners_.push_back(listener);
}

void BlockStore::remove(Listener* listener) {
  std::lock_guard lock(mutex_);
  std::erase(listeners_, listener);
}

}  // namespace lockstep
