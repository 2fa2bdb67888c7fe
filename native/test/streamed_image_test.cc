// Images that are on their way: what is put into their file, who waits for what, and what memory gets to see.
#include "memory/streamed_image.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>

#include "memory/digest.h"
#include "test/bare_guest.h"
#include "test/check.h"

namespace lockstep::test {
namespace {

constexpr uint64_t kPages = 40, kAt = 0x10000;

// An image of pages that all differ, and a place for its file.
struct Sample {
  Sample() {
    for (uint64_t i = 0; i < content.size(); i++)
      content[i] = static_cast<uint8_t>(i / kPageBytes + i * 7 + 1);
    file = flat_image(StartMode::kLong, kAt, content);
    front.assign(file.begin(), file.begin() + static_cast<ptrdiff_t>(image_front_bytes(file)));
  }
  ~Sample() { std::filesystem::remove(path); }
  std::span<const uint8_t> block(uint64_t n) const {
    return std::span(content).subspan(n * kPageBytes, kPageBytes);
  }
  Bytes content = Bytes(kPages * kPageBytes), file, front;
  std::string path = "/tmp/lockstep-block-store." + std::to_string(getpid());
};

TEST(stream_a_store_believes_no_block_but_by_its_hash) {
  Sample sample;
  {
    BlockStore store(sample.path, sample.front);
    CHECK(store.missing() == kPages);
    CHECK(failure_code([&] { BlockStore again(sample.path, sample.front); }) == "ERR_LOCKSTEP_STREAM_BUSY");
    CHECK(!store.put(3, sample.block(4)) && !store.has(3));
    Bytes flipped(sample.block(3).begin(), sample.block(3).end());
    flipped[below(kPageBytes)] ^= 1 << below(8);
    CHECK(!store.put(3, flipped) && !store.put(3, {}));
    for (uint64_t n = 0; n < kPages; n += 2) CHECK(store.put(n, sample.block(n)));
    CHECK(store.missing() == kPages / 2);
  }
  // Somebody else wrote into it meanwhile.
  const int fd = open(sample.path.c_str(), O_WRONLY);
  const uint8_t byte = static_cast<uint8_t>(~sample.block(6)[17]);
  CHECK(pwrite(fd, &byte, 1, static_cast<off_t>(sample.front.size() + 6 * kPageBytes + 17)) == 1);
  close(fd);
  BlockStore store(sample.path, sample.front);
  store.recover();
  for (uint64_t n = 0; n < kPages; n++) CHECK(store.has(n) == (n % 2 == 0 && n != 6));
  CHECK(store.missing() == kPages / 2 + 1);
}

TEST(stream_whoever_touches_a_page_gets_it_when_it_comes) {
  Sample sample;
  auto store = std::make_shared<BlockStore>(sample.path, sample.front);
  std::vector<uint64_t> order(kPages);
  for (uint64_t n = 0; n < kPages; n++) order[n] = n;
  std::shuffle(order.begin(), order.end(), random());
  for (uint64_t n : StreamedImage::needed_first(store->image())) store->put(n, sample.block(n));
  GuestMemory memory(4 << 20);
  std::atomic<uint64_t> wanted{0};
  store->on_wanted([&](uint64_t) { wanted++; });
  StreamedImage image(
      store, true, std::this_thread::get_id(), [] { return false; }, [](const Failure&) {});
  image.provide(memory);
  CHECK(failure_code([&] { memory.view(kAt + kPageBytes, 1); }) == "ERR_LOCKSTEP_NOT_ARRIVED");
  // Some wait at the gate, and some in the kernel, as KVM does.
  std::atomic<bool> right{true};
  std::vector<std::thread> readers;
  for (int reader = 0; reader < 4; reader++)
    readers.emplace_back([&, reader] {
      for (uint64_t i = 0; i < kPages; i++) {
        const uint64_t n = order[(i + static_cast<uint64_t>(reader) * 11) % kPages],
                       gpa = kAt + n * kPageBytes;
        const uint8_t* page = reader % 2 ? memory.view(gpa, kPageBytes).data() : memory.host() + gpa;
        if (!std::equal(page, page + kPageBytes, sample.block(n).begin())) right = false;
      }
    });
  for (uint64_t n : order) {
    store->put(n, sample.block(n));
    usleep(500);
  }
  for (std::thread& reader : readers) reader.join();
  CHECK(right && wanted > 0);
  for (int i = 0; i < 2000 && !image.is_complete(); i++) usleep(1000);
  CHECK(image.is_complete());
  MemoryDigest whole(memory.pages());
  whole.update_all(memory);
  CHECK(whole.value() ==
        image_memory_sum(store->image(), [&](uint64_t at, std::span<uint8_t> to) { store->read(at, to); }));
}

TEST(stream_who_stands_still_is_let_go_and_the_memory_is_torn) {
  Sample sample;
  auto store = std::make_shared<BlockStore>(sample.path, sample.front);
  for (uint64_t n : StreamedImage::needed_first(store->image())) store->put(n, sample.block(n));
  GuestMemory memory(4 << 20);
  std::atomic<bool> over{false};
  StreamedImage image(
      store, false, std::this_thread::get_id(), [&] { return over.load(); }, [](const Failure&) {});
  image.provide(memory);
  std::string code;
  std::thread at_the_gate([&] { code = failure_code([&] { memory.view(kAt + kPageBytes, 1); }); });
  std::thread in_the_kernel([&] { CHECK(memory.host()[kAt + 5 * kPageBytes] == 0); });
  while (store->wanted() < 2) usleep(100);
  CHECK(!memory.torn());
  over = true;
  image.release();
  in_the_kernel.join();
  at_the_gate.join();
  CHECK(memory.torn() && code == "ERR_LOCKSTEP_CLOSED");
}

}  // namespace
}  // namespace lockstep::test
