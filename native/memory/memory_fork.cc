// A second memory from the first, by copy-on-write within one process. What both shall share has to lie in a
// file: pages of a snapshot's do already; what a machine has written itself is moved into one in memory
// (memfd), once, when it is forked first. Both map that privately from then on.
#include <sys/mman.h>

#include <algorithm>

#include "memory/digest.h"
#include "memory/guest_memory.h"
#include "memory/page_pieces.h"

namespace lockstep {

namespace {

// So many pages of a machine's own are copied for each fork, in some 2 ms, rather than moved for all.
constexpr size_t kCopiedMax = 2048;
// Of one memory: vm.max_map_count, usually 65530, is for a hundred of them.
constexpr size_t kMappingsMax = 500;
constexpr uint64_t kFileOrShared = 1ull << 61, kSwapped = 1ull << 62, kPresent = 1ull << 63;

using Range = GuestMemory::Range;

// Runs of pages; neighbours that are no further apart than `gap` pages are one.
std::vector<Range> runs_of(const std::vector<uint64_t>& pages, uint64_t gap) {
  std::vector<Range> runs;
  for (const uint64_t page : pages) {
    if (!runs.empty() && page - (runs.back().first + runs.back().count) <= gap)
      runs.back().count = page - runs.back().first + 1;
    else
      runs.push_back({page, 1});
  }
  return runs;
}

}  // namespace

// Takes the place of what was mapped there.
void GuestMemory::map(const Mapping& mapping) {
  void* at = host_ + mapping.gpa;
  if (mmap(at, mapping.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE,
           mapping.file->get(), static_cast<off_t>(mapping.offset)) == MAP_FAILED)
    throw_system("ERR_LOCKSTEP_MEMORY", "mmap", "guest memory from a file",
                 "raise vm.max_map_count, or have fewer machines");
  madvise(at, mapping.bytes, MADV_DONTFORK);
  std::vector<Mapping> result;
  const uint64_t begin = mapping.gpa, end = mapping.gpa + mapping.bytes;
  for (const Mapping& old : mappings_) {
    const uint64_t old_end = old.gpa + old.bytes;
    if (old.gpa < begin)
      result.push_back({old.gpa, std::min(old_end, begin) - old.gpa, old.file, old.offset});
    if (old_end > end) {
      const uint64_t from = std::max(old.gpa, end);
      result.push_back({from, old_end - from, old.file, old.offset + (from - old.gpa)});
    }
  }
  result.push_back(mapping);
  std::sort(result.begin(), result.end(), [](const Mapping& a, const Mapping& b) { return a.gpa < b.gpa; });
  mappings_ = std::move(result);
}

// Pages that are this memory's alone: written since it was mapped, or mapped from nowhere.
std::vector<uint64_t> GuestMemory::own_pages() const {
  std::vector<uint64_t> entries(pages()), own;
  const size_t bytes = entries.size() * sizeof(uint64_t);
  const uint64_t first = reinterpret_cast<uint64_t>(host_) / kPageBytes;
  const bool known = pagemap() >= 0 && pread(pagemap(), entries.data(), bytes,
                                             static_cast<off_t>(first * 8)) == static_cast<ssize_t>(bytes);
  if (!known) return touched_pages(*this);
  auto over = mappings_.begin();  // the first that does not end before the page
  for (uint64_t page = 0; page < entries.size(); page++) {
    if (!(entries[page] & kSwapped) && (entries[page] & (kPresent | kFileOrShared)) != kPresent) continue;
    const uint64_t gpa = page * kPageBytes;
    while (over != mappings_.end() && over->gpa + over->bytes <= gpa) over++;
    // Of a huge page most may never have been written: zeros that hide nothing need not go along.
    const bool hides = over != mappings_.end() && over->gpa <= gpa;
    if (hides || !is_zero(view(gpa, kPageBytes))) own.push_back(page);
  }
  return own;
}

// Moves these pages into a file of their own. Where they are too scattered, what lies between goes with them.
void GuestMemory::freeze(const std::vector<uint64_t>& own) {
  auto file = std::make_shared<const Fd>(memfd_create("lockstep-memory", MFD_CLOEXEC));
  if (!*file || ftruncate(file->get(), static_cast<off_t>(bytes_)))
    throw_system("ERR_LOCKSTEP_MEMORY", "memfd_create", "memory for a fork");
  std::vector<Range> runs = runs_of(own, 0);
  for (uint64_t gap = 1; 2 * runs.size() + mappings_.size() > kMappingsMax && runs.size() > 1; gap *= 2)
    runs = runs_of(own, gap);
  for (const Range& run : runs) {
    for (uint64_t at = run.first * kPageBytes, end = at + run.count * kPageBytes; at < end;) {
      const ssize_t done = pwrite(file->get(), host_ + at, end - at, static_cast<off_t>(at));
      if (done < 0 && errno != EINTR) throw_system("ERR_LOCKSTEP_MEMORY", "pwrite", "memory for a fork");
      if (done > 0) at += static_cast<uint64_t>(done);
    }
  }
  // Only now: whatever failed before has changed nothing.
  for (const Range& run : runs)
    map({run.first * kPageBytes, run.count * kPageBytes, file, run.first * kPageBytes});
}

std::unique_ptr<GuestMemory> GuestMemory::fork() {
  // What is still to come here would not come there.
  std::vector<uint64_t> own = expected_.empty() ? own_pages() : touched_pages(*this);
  if (own.size() > kCopiedMax) {
    freeze(own);
    own.clear();
  }
  auto child = std::make_unique<GuestMemory>(bytes_);
  // There may be many, each of which writes little: a huge page for each page would be all that they hold.
  madvise(child->host_, bytes_, MADV_NOHUGEPAGE);
  for (const Mapping& mapping : mappings_) child->map(mapping);
  for (const Range& run : runs_of(own, 0))
    std::memcpy(child->host_ + run.first * kPageBytes, host_ + run.first * kPageBytes,
                run.count * kPageBytes);
  return child;
}

}  // namespace lockstep
