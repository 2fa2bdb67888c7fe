// All devices of a machine under a hostile peer and a hostile guest at once: a saved state that says anything
// (a live side sends one, a log may start with one), then a script of accesses, of what a log says comes in,
// and of what the guest has left in the page that the exchange reads.
#include <algorithm>

#include "device/board.h"
#include "error.h"
#include "guest/abi.h"

using namespace lockstep;

namespace {

constexpr uint64_t kMemoryBytes = 4 << 20;
constexpr uint64_t kNicGpa = 0xd0000000;

void check(bool held) {
  if (!held) __builtin_trap();
}

struct Nowhere : Sink {
  void output(uint8_t channel, std::span<const uint8_t> bytes) override {
    check(channel < kOutputChannels);
    for (const uint8_t byte : bytes) sum = static_cast<uint8_t>(sum ^ byte);
  }
  void raise(uint8_t) override {}
  void end(const End&, const std::string&) override {}
  volatile uint8_t sum = 0;
};

struct Script {
  const uint8_t* at;
  size_t left;
  uint8_t byte() { return left == 0 ? 0 : (left--, *at++); }
  uint32_t word() {
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) value |= uint32_t{byte()} << (8 * i);
    return value;
  }
  Bytes bytes(size_t count) {
    count = std::min(count, left);
    Bytes taken(at, at + count);
    at += count, left -= count;
    return taken;
  }
};

Access access_of(Script& script) {
  static constexpr uint64_t kPlaces[] = {0x3f8, 0x604, 0x70, LS_PORT_EXCHANGE, kNicGpa};
  const uint8_t how = script.byte();
  Access access;
  access.address = kPlaces[how % std::size(kPlaces)] + script.byte() % 128;
  access.space = access.address >= kNicGpa ? Space::kMmio : Space::kPort;
  access.size = static_cast<uint8_t>(1 << (how >> 6));
  access.write = how & 32;
  access.value = script.word();
  return access;
}

Event event_of(Script& script) {
  Event event;
  if (script.byte() & 1) event.time_us = script.word();
  for (int i = script.byte() % 4; i > 0; i--) {
    Input input;
    input.kind = static_cast<InputKind>(script.byte() % 8);
    input.channel = script.byte() % 8;
    const uint8_t length = script.byte();
    input.bytes = script.bytes(length);
    if (length & 1) input.bytes.resize(length * 64u);
    event.inputs.push_back(std::move(input));
  }
  return event;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const CpuModel model = CpuModel::build("");
  Script script{data, size};
  const uint8_t kind = script.byte();
  const std::array<uint8_t, 32> seed{};
  Nowhere nowhere;
  GuestMemory memory(kMemoryBytes);
  std::optional<VirtioNetConfig> net;
  if (kind & 1) net = VirtioNetConfig{kNicGpa, {2}, 1500, !(kind & 2)};
  Board board(nowhere, memory, model, seed, kind & 2, net);
  try {
    if (kind & 4) {
      const uint8_t length = script.byte();
      board.restore(script.bytes(length * 4u));
    }
    while (script.left > 0) {
      switch (script.byte() % 4) {
        case 0: {
          const Access access = access_of(script);
          if (access.write) board.write(access);
          (void)board.want(access);
          if (!access.write) (void)board.read(access);
          break;
        }
        case 1: board.apply(event_of(script)); break;
        case 2: memory.store<uint32_t>(LS_GPA_EXCHANGE + script.byte() * 4u, script.word()); break;
        case 3: memory.store<uint16_t>(script.word() % kMemoryBytes, script.byte()); break;
      }
    }
    // What it has become is a state like any other.
    Board again(nowhere, memory, model, seed, kind & 2, net);
    const Bytes saved = board.save();
    again.restore(saved);
    check(again.save() == saved);
  } catch (const Failure& failure) {
    check(failure.code.starts_with("ERR_LOCKSTEP_"));
  }
  return 0;
}
