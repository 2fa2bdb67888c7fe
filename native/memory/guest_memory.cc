#include "memory/guest_memory.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>

namespace lockstep {

namespace {
constexpr uint64_t kHugeBytes = 2 << 20;
}

GuestMemory::GuestMemory(uint64_t bytes)
    : bytes_(bytes), dirty_(bytes / kPageBytes), written_(bytes / kPageBytes), changed_(bytes / kPageBytes) {
  // A huge page's worth more than needed, so that the start can be aligned to one.
  void* map =
      mmap(nullptr, bytes + kHugeBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (map == MAP_FAILED)
    throw_system("ERR_LOCKSTEP_MEMORY", "mmap", std::to_string(bytes >> 20) + " MiB of guest memory",
                 "give the machine less memory");
  auto start = reinterpret_cast<uint64_t>(map);
  uint64_t aligned = (start + kHugeBytes - 1) & ~(kHugeBytes - 1);
  if (aligned > start) munmap(map, aligned - start);
  munmap(reinterpret_cast<void*>(aligned + bytes), start + kHugeBytes - aligned);
  host_ = reinterpret_cast<uint8_t*>(aligned);
  if (mprotect(host_, bytes, PROT_READ | PROT_WRITE))
    throw_system("ERR_LOCKSTEP_MEMORY", "mprotect", std::to_string(bytes >> 20) + " MiB of guest memory");
  madvise(host_, bytes, MADV_HUGEPAGE);
  madvise(host_, bytes, MADV_DONTFORK);
  pagemap_ = Fd(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
}

GuestMemory::~GuestMemory() {
  if (host_) munmap(host_, bytes_);
}

std::span<const uint8_t> GuestMemory::view(uint64_t gpa, uint64_t length) const {
  if (!contains(gpa, length)) return {};
  if (gate_) gate_(gpa, length);
  return {host_ + gpa, length};
}

bool GuestMemory::write(uint64_t gpa, std::span<const uint8_t> data) {
  if (!contains(gpa, data.size())) return false;
  if (data.empty()) return true;
  if (gate_) gate_(gpa, data.size());
  std::memcpy(host_ + gpa, data.data(), data.size());
  for (uint64_t page = gpa / kPageBytes; page <= (gpa + data.size() - 1) / kPageBytes; page++) mark(page);
  return true;
}

void GuestMemory::mark(uint64_t page) {
  if (watcher_) watcher_->push_back(page);
  if (page >= pages()) return;
  dirty_.add(page);
  written_.add(page);
  if (!following_) return;
  std::lock_guard lock(changed_mutex_);
  changed_.add(page);
}

size_t GuestMemory::changed() const {
  std::lock_guard lock(changed_mutex_);
  return changed_.size();
}

std::vector<uint64_t> GuestMemory::take_changed() {
  std::lock_guard lock(changed_mutex_);
  return changed_.take();
}

std::vector<uint64_t> GuestMemory::take_dirty() { return dirty_.take(); }
std::vector<uint64_t> GuestMemory::take_written() { return written_.take(); }

void GuestMemory::PageSet::add(uint64_t page) {
  const uint64_t bit = 1ull << (page % 64);
  if (bits_[page / 64] & bit) return;
  bits_[page / 64] |= bit;
  pages_.push_back(page);
}

std::vector<uint64_t> GuestMemory::PageSet::take() {
  for (uint64_t page : pages_) bits_[page / 64] = 0;
  std::vector<uint64_t> result;
  result.swap(pages_);
  std::sort(result.begin(), result.end());
  return result;
}

}  // namespace lockstep
