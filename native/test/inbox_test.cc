#include "replay/inbox.h"

#include <poll.h>

#include <thread>

#include "test/check.h"

namespace lockstep::test {
namespace {

constexpr std::array<uint32_t, 4> kAll = {1 << 20, 1 << 20, 1 << 20, 1 << 20};

bool readable(const Inbox& inbox) {
  pollfd poll_fd{inbox.fd(), POLLIN, 0};
  return poll(&poll_fd, 1, 0) == 1;
}

Input data(uint8_t channel, const std::string& text) {
  return {InputKind::kData, channel, Bytes(text.begin(), text.end())};
}

TEST(inputs_come_out_as_they_went_in) {
  Inbox inbox;
  CHECK(inbox.empty() && !readable(inbox) && inbox.room() == Inbox::kBytesMax && inbox.take(kAll).empty());
  const std::vector<Input> inputs = {data(0, "one"),
                                     {InputKind::kSignal, 0, {2}},
                                     data(0, "two"),
                                     data(1, "x"),
                                     {InputKind::kEof, 0, {}},
                                     {InputKind::kSerial, 9, {1, 2}},
                                     {InputKind::kHangup, 4, {}},
                                     {InputKind::kInterrupt, 0, {32}}};
  for (const Input& input : inputs) inbox.push(input);
  CHECK(!inbox.empty() && readable(inbox) && inbox.room() == Inbox::kBytesMax - 11);
  CHECK(inbox.take(kAll) == inputs);
  CHECK(inbox.empty() && !readable(inbox) && inbox.room() == Inbox::kBytesMax);
}

TEST(what_says_nothing_new_does_not_pile_up) {
  Inbox inbox;
  for (uint8_t i = 0; i < 100; i++) {
    inbox.push({InputKind::kSignal, 0, {static_cast<uint8_t>(1 + i % 2)}});
    inbox.push({InputKind::kWindow, 0, {i, 0, 80, 0}});
  }
  const Input first{InputKind::kSignal, 0, {1}}, second{InputKind::kSignal, 0, {2}};
  const Input window{InputKind::kWindow, 0, {99, 0, 80, 0}};
  CHECK(inbox.room() == Inbox::kBytesMax - 6);
  CHECK(inbox.take(kAll) == std::vector<Input>{first, window, second});
  inbox.push(first);
  CHECK(inbox.take(kAll) == std::vector<Input>{first});
  CHECK(inbox.empty() && inbox.room() == Inbox::kBytesMax);
}

TEST(data_is_split_and_the_end_waits_for_it) {
  Inbox inbox;
  inbox.push(data(0, "abcdef"));
  inbox.push({InputKind::kEof, 0, {}});
  inbox.push({InputKind::kEof, 1, {}});
  inbox.push({InputKind::kSignal, 0, {2}});
  CHECK(inbox.take({4, 0, 0, 0}) ==
        std::vector<Input>{data(0, "abcd"), {InputKind::kEof, 1, {}}, {InputKind::kSignal, 0, {2}}});
  CHECK(!inbox.empty() && inbox.room() == Inbox::kBytesMax - 2);
  CHECK(inbox.take({0, 9, 9, 9}).empty() && !readable(inbox) && !inbox.empty());  // no news
  CHECK(inbox.take({9, 0, 0, 0}) == std::vector<Input>{data(0, "ef"), {InputKind::kEof, 0, {}}});
  CHECK(inbox.empty() && !readable(inbox));
}

TEST(small_data_is_merged_and_nothing_overtakes_on_its_channel) {
  Inbox inbox;
  inbox.push(data(0, "a"));
  inbox.push(data(0, ""));
  inbox.push(data(0, "b"));
  inbox.push(data(1, "c"));
  inbox.push(data(0, "d"));
  CHECK(inbox.take({1, 1, 1, 1}) == std::vector<Input>{data(0, "a"), data(1, "c")});
  CHECK(inbox.take(kAll) == std::vector<Input>{data(0, "bd")});
}

TEST(waking_and_overfilling) {
  Inbox inbox;
  inbox.wake();
  CHECK(inbox.empty() && readable(inbox) && inbox.take(kAll).empty() && !readable(inbox));
  inbox.push(data(0, std::string(Inbox::kBytesMax, 'x')));
  CHECK(inbox.room() == 0);
  inbox.push(data(0, "y"));
  CHECK(inbox.room() == 0 && inbox.take(kAll).at(0).bytes.size() == Inbox::kBytesMax + 1);
  CHECK(failure_code([&] { inbox.push(data(4, "x")); }) == "ERR_LOCKSTEP_INTERNAL");
}

TEST(threads_lose_nothing_and_keep_their_order) {
  Inbox inbox;
  constexpr size_t kBytes = 200'000;
  const auto feed = [&inbox](uint8_t channel) {
    for (size_t i = 0; i < kBytes;) {
      if (inbox.room() == 0) {
        std::this_thread::yield();
        continue;
      }
      Bytes part;
      for (size_t n = 1 + i % 77; n > 0 && i < kBytes; n--) part.push_back(static_cast<uint8_t>(i++ % 251));
      inbox.push({InputKind::kData, channel, part});
    }
    inbox.push({InputKind::kEof, channel, {}});
  };
  std::thread first(feed, 0), second(feed, 1);
  std::array<size_t, 2> got{};
  size_t ends = 0;
  bool right = true;
  while (ends < 2) {
    // As the recorder does: waits only over an inbox that it has just found empty of what it wants.
    pollfd poll_fd{inbox.fd(), POLLIN, 0};
    if (inbox.empty()) poll(&poll_fd, 1, -1);
    const auto cap = [] { return static_cast<uint32_t>(below(3000)); };
    for (const Input& input : inbox.take({cap(), cap(), 0, 0})) {
      if (input.kind == InputKind::kEof) {
        ends++;
        right &= got[input.channel] == kBytes;
      }
      for (const uint8_t byte : input.bytes) right &= byte == got[input.channel]++ % 251;
    }
  }
  first.join();
  second.join();
  CHECK(right && inbox.empty());
}

}  // namespace
}  // namespace lockstep::test
