// Images whose pages are noted when they are first touched.
#include "memory/traced_image.h"

#include <algorithm>
#include <atomic>
#include <barrier>
#include <thread>

#include "test/bare_guest.h"
#include "test/check.h"

namespace lockstep::test {
namespace {

constexpr uint64_t kPages = 300, kAt = 0x10000, kFirst = kAt / kPageBytes;

// An image of pages that all differ, and the memory of a machine that begins as it.
struct Sample {
  Sample() {
    for (uint64_t i = 0; i < content.size(); i++)
      content[i] = static_cast<uint8_t>(i / kPageBytes + i * 7 + 1);
    file = flat_image(StartMode::kLong, kAt, content);
    image = parse_image(file);
    traced = std::make_unique<TracedImage>(image, true);
    traced->provide(memory);
    for (uint64_t n = 0; n < kPages; n++) order.push_back(kFirst + n);
    std::shuffle(order.begin(), order.end(), random());
  }
  bool is_right(uint64_t page) const {
    const auto from = content.begin() + static_cast<ptrdiff_t>((page - kFirst) * kPageBytes);
    return std::equal(from, from + kPageBytes, memory.host() + page * kPageBytes);
  }
  Bytes content = Bytes(kPages * kPageBytes), file;
  Image image;
  GuestMemory memory{4 << 20};
  std::unique_ptr<TracedImage> traced;
  std::vector<uint64_t> order;
};

TEST(traced_pages_are_noted_in_the_order_of_their_first_touch) {
  Sample sample;
  const std::vector<uint64_t> half(sample.order.begin(), sample.order.begin() + kPages / 2);
  for (uint64_t page : half) CHECK(sample.is_right(page));
  for (uint64_t page : half) CHECK(sample.is_right(page));
  CHECK(sample.traced->touched_pages() == half);
  // Writing is touching, and what was written stays.
  const uint64_t other = sample.order.back();
  sample.memory.host()[other * kPageBytes] = 0;
  sample.memory.host()[other * kPageBytes] ^= 0x55;
  CHECK(sample.memory.host()[other * kPageBytes] == 0x55);
  CHECK(sample.traced->touched_pages().size() == half.size() + 1);
  CHECK(sample.traced->touched_pages().back() == other);
}

TEST(traced_pages_are_noted_once_whoever_touches_them_at_once) {
  Sample sample;
  constexpr int kReaders = 8;
  std::barrier together(kReaders);
  std::atomic<bool> right{true};
  std::vector<std::thread> readers;
  for (int reader = 0; reader < kReaders; reader++)
    readers.emplace_back([&] {
      for (uint64_t page : sample.order) {
        together.arrive_and_wait();
        if (!sample.is_right(page)) right = false;
      }
    });
  for (std::thread& reader : readers) reader.join();
  // All wait for each other at every page, so they come to them in one order.
  CHECK(right && sample.traced->touched_pages() == sample.order);
}

}  // namespace
}  // namespace lockstep::test
