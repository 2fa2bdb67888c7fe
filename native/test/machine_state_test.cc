// What a machine's state is made of: it comes back the same, and what is damaged is refused.
#include "machine_state.h"

#include "log/log_start.h"
#include "memory/page_pieces.h"
#include "test/check.h"

namespace lockstep::test {
namespace {

MachineState sample() {
  MachineState state;
  state.at = {7, 4, 99, 12345, 1'000'000, 17, true};
  state.waits_at = Access{Space::kPort, 0xe0, 4, true, 1};
  state.at_position = true;
  state.last_memory_us = 5;
  state.vcpu = {1, 2, 3};
  state.devices = {4, 5};
  state.vectors = {32};
  for (size_t i = 0; i < kOutputChannels; i++) {
    StreamHash hash;
    hash.add(Bytes(100 * i, static_cast<uint8_t>(i)));
    state.channel_hashes[i] = hash.save();
    state.channel_bytes[i] = 100 * i;
  }
  return state;
}

TEST(state_comes_back_and_damaged_ones_are_refused) {
  const Bytes bytes = encode_machine_state(sample());
  CHECK(encode_machine_state(decode_machine_state(bytes)) == bytes);
  for (size_t size = 0; size < bytes.size(); size++)
    CHECK(failure_code([&] { decode_machine_state({bytes.data(), size}); }) == "ERR_LOCKSTEP_STATE_DAMAGED");
}

TEST(state_a_running_hash_goes_on_elsewhere) {
  for (int round = 0; round < 200; round++) {
    const Bytes first(below(3000), 7), second(below(3000), 9);
    StreamHash here, there;
    here.add(first);
    there.restore(here.save());
    here.add(second);
    there.add(second);
    CHECK(here.value() == there.value());
  }
}

TEST(state_memory_comes_back_in_pieces_and_damaged_ones_are_refused) {
  GuestMemory from(4 << 20), to(4 << 20);
  const std::vector<uint64_t> pages{0, 3, 4, 500, 1023};
  for (uint64_t page : {0, 3, 500, 1023}) from.store(page * kPageBytes + below(4000), random()());
  to.store(4 * kPageBytes, uint64_t{1});  // has become zero meanwhile
  const Bytes piece = encode_pages(from, pages);
  decode_pages(piece, to);
  CHECK(std::memcmp(from.host(), to.host(), from.bytes()) == 0);
  GuestMemory small(1 << 20);
  CHECK(failure_code([&] { decode_pages(piece, small); }) == "ERR_LOCKSTEP_STATE_DAMAGED");
  for (int round = 0; round < 2000; round++) {
    Bytes wrong = piece;
    wrong[below(wrong.size())] ^= static_cast<uint8_t>(1 + below(255));
    if (below(4) == 0) wrong.resize(below(wrong.size()));
    const std::string code = failure_code([&] { decode_pages(wrong, to); });
    CHECK(code.empty() || code == "ERR_LOCKSTEP_STATE_DAMAGED");
  }
}

TEST(state_a_log_start_comes_back_and_damaged_ones_are_refused) {
  LogStart start;
  start.digest.lsn = 42;
  start.digest.memory = 7;
  start.digest.register_values = std::vector<uint64_t>(18, 3);
  start.time_us = 11;
  start.chain = 13;
  start.state = encode_machine_state(sample());
  const Bytes bytes = encode_log_start(start);
  const LogStart back = decode_log_start(bytes);
  CHECK(back.digest == start.digest && back.time_us == 11 && back.chain == 13 && back.state == start.state);
  for (size_t size = 0; size < bytes.size(); size++)
    CHECK(failure_code([&] { decode_log_start({bytes.data(), size}); }) == "ERR_LOCKSTEP_LOG_DAMAGED");
}

}  // namespace
}  // namespace lockstep::test
