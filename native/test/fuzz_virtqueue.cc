// A network card whose driver writes anything anywhere: registers, rings, descriptors. The bytes are a script
// of four-byte steps. Whatever happens, nothing outside of memory is touched, and the card's saved state
// restores.
#include "device/virtio_net.h"
#include "net/frame.h"

using namespace lockstep;

namespace {

constexpr uint64_t kGpa = 0xd0000000;
constexpr uint64_t kMemoryBytes = 1 << 16;

void check(bool held) {
  if (!held) __builtin_trap();
}

struct Nowhere : Sink {
  void output(uint8_t channel, std::span<const uint8_t> bytes) override {
    check(channel == kNetworkChannel);
    for (auto frame = next_frame(bytes); !frame.empty(); frame = next_frame(bytes))
      check(frame.size() >= kFrameBytesMin && frame.size() <= frame_bytes_max(1500));
    check(bytes.empty());
  }
  void raise(uint8_t) override {}
  void end(const End&, const std::string&) override {}
};

void bring_up(VirtioNet& net) {
  auto set = [&](uint64_t offset, uint32_t value) {
    net.write({Space::kMmio, kGpa + offset, 4, true, value});
  };
  set(0x70, 0);
  set(0x24, 1);
  set(0x20, 1);
  set(0x70, 0xb);
  for (uint32_t queue : {0, 1}) {
    set(0x30, queue);
    set(0x38, 16);
    set(0x80, queue * 0x1000);
    set(0x90, queue * 0x1000 + 0x400);
    set(0xa0, queue * 0x1000 + 0x800);
    set(0x44, 1);
  }
  set(0x70, 0xf);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Nowhere nowhere;
  GuestMemory memory(kMemoryBytes);
  VirtioNet net(nowhere, memory, {kGpa, {2}, 1500, true});
  bring_up(net);
  for (; size >= 4; data += 4, size -= 4) {
    const uint32_t value = data[2] | data[3] << 8;
    switch (data[0] % 6) {
      case 0:  // in the tables and rings
        memory.store<uint16_t>((data[0] / 6 % 2 * 0x1000) | data[1] % 24 * 2 | (data[0] & 0x80 ? 0x400 : 0),
                               static_cast<uint16_t>(value));
        break;
      case 1: memory.store<uint16_t>((data[1] | value << 8) % kMemoryBytes, data[0]); break;
      case 2: net.write({Space::kMmio, kGpa + data[1] * 4u, 4, true, value}); break;
      case 3:
        net.read({Space::kMmio, kGpa + (data[1] | (value & 0xf) << 8),
                  static_cast<uint8_t>(1 << (value >> 14)), false, 0});
        break;
      case 4: net.transmit(); break;
      case 5:
        check(net.room() <= Virtqueue::kSizeMax);
        net.input({InputKind::kPacket, 0, Bytes(value % 1600, data[1])});
        break;
    }
  }
  StateWriter saved, again;
  net.save(saved);
  VirtioNet other(nowhere, memory, {kGpa, {2}, 1500, true});
  StateReader reader(saved.bytes());
  other.restore(reader);
  other.save(again);
  check(saved.bytes() == again.bytes());
  return 0;
}
