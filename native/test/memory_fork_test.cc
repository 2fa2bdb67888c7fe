// Memories by copy-on-write: random writes to several that come from one, against plain copies.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <memory>
#include <vector>

#include "memory/digest.h"
#include "memory/guest_memory.h"
#include "test/check.h"

namespace lockstep::test {
namespace {

constexpr uint64_t kBytes = 16 << 20;

struct Twin {
  std::unique_ptr<GuestMemory> memory;
  std::vector<uint8_t> copy;  // what it must be

  void scribble(size_t times) {
    for (size_t i = 0; i < times; i++) {
      const uint64_t at = below(kBytes - 64);
      std::array<uint8_t, 64> bytes;
      // Now and then zeros: they must hide what lies beneath.
      const bool zeros = below(4) == 0;
      for (uint8_t& byte : bytes) byte = zeros ? 0 : static_cast<uint8_t>(below(256));
      memory->write(at, bytes);
      std::copy(bytes.begin(), bytes.end(), copy.begin() + static_cast<ptrdiff_t>(at));
    }
  }
  bool is_right() const { return std::memcmp(memory->host(), copy.data(), kBytes) == 0; }
  uint64_t digest() const {
    MemoryDigest digest(memory->pages());
    digest.update_all(*memory);
    return digest.value();
  }
  uint64_t plain_digest() const {
    GuestMemory plain(kBytes);
    plain.write(0, copy);
    MemoryDigest digest(plain.pages());
    digest.update_all(plain);
    return digest.value();
  }
};

Twin fresh() { return {std::make_unique<GuestMemory>(kBytes), std::vector<uint8_t>(kBytes)}; }

size_t most_mappings(const std::vector<Twin>& twins) {
  size_t most = 0;
  for (const Twin& twin : twins) most = std::max(most, twin.memory->mappings().size());
  return most;
}

TEST(forked_memories_are_equal_and_apart) {
  std::vector<Twin> twins;
  twins.push_back(fresh());
  twins[0].scribble(200);
  for (int round = 0; round < 30; round++) {
    Twin& twin = twins[below(twins.size())];
    // From a few pages, which are copied, to nearly all, which are moved.
    twin.scribble(below(2) ? 20 : 6000);
    Twin forked{twin.memory->fork(), twin.copy};
    CHECK(twin.is_right() && forked.is_right());
    if (twins.size() < 5)
      twins.push_back(std::move(forked));
    else
      twins[below(twins.size())] = std::move(forked);
  }
  for (const Twin& twin : twins) CHECK(twin.is_right() && twin.digest() == twin.plain_digest());
  printf("# at most %zu mappings\n", most_mappings(twins));
  CHECK(most_mappings(twins) <= 1000);
}

TEST(a_file_under_memory_stays_as_it_is) {
  auto file = std::make_shared<const Fd>(memfd_create("test", MFD_CLOEXEC));
  std::vector<uint8_t> content(64 * kPageBytes);
  for (uint8_t& byte : content) byte = static_cast<uint8_t>(below(256));
  CHECK(write(file->get(), content.data(), content.size()) == static_cast<ssize_t>(content.size()));
  Twin twin = fresh();
  const uint64_t gpa = 100 * kPageBytes;
  twin.memory->map({gpa, content.size(), file, 0});
  std::copy(content.begin(), content.end(), twin.copy.begin() + gpa);
  // Nobody has looked at it yet, and it counts all the same.
  CHECK(touched_pages(*twin.memory).size() >= 64 && twin.digest() == twin.plain_digest());
  twin.scribble(3000);
  const std::array<uint8_t, kPageBytes> zeros{};
  twin.memory->write(gpa + 3 * kPageBytes, zeros);
  std::fill_n(twin.copy.begin() + gpa + 3 * kPageBytes, kPageBytes, 0);
  Twin forked{twin.memory->fork(), twin.copy};
  forked.scribble(3000);
  CHECK(twin.is_right() && forked.is_right());
  std::vector<uint8_t> now(content.size());
  CHECK(pread(file->get(), now.data(), now.size(), 0) == static_cast<ssize_t>(now.size()));
  CHECK(now == content);
}

}  // namespace
}  // namespace lockstep::test
