// The network card with no machine around it: a driver that behaves, and drivers that do not.
#include <algorithm>

#include "device/board.h"
#include "net/frame.h"
#include "test/check.h"

using namespace lockstep;
using namespace lockstep::test;

namespace {

constexpr uint64_t kGpa = 0xd0000000;
constexpr uint64_t kMemoryBytes = 2 << 20;
constexpr uint16_t kNext = 1, kWrite = 2, kIndirect = 4;
constexpr uint32_t kHeaderBytes = 12;

struct Outside : Sink {
  std::vector<Bytes> frames;
  std::vector<uint8_t> vectors;
  void output(uint8_t channel, std::span<const uint8_t> bytes) override {
    CHECK(channel == kNetworkChannel);
    for (auto frame = next_frame(bytes); !frame.empty(); frame = next_frame(bytes))
      frames.emplace_back(frame.begin(), frame.end());
    CHECK(bytes.empty());
  }
  void raise(uint8_t vector) override { vectors.push_back(vector); }
  void end(const End&, const std::string&) override {}
};

// One queue as a driver sees it, at fixed places.
struct Ring {
  uint64_t descriptors, available, used;
  uint16_t size = 8, next = 0;
};

struct Bench {
  Outside outside;
  GuestMemory memory{kMemoryBytes};
  VirtioNet net;
  Ring receive{0x1000, 0x2000, 0x3000}, transmit{0x4000, 0x5000, 0x6000};

  explicit Bench(bool interrupts = true)
      : net(outside, memory, {kGpa, {2, 1, 2, 3, 4, 5}, 1500, interrupts}) {}

  void set(uint64_t offset, uint32_t value) { net.write({Space::kMmio, kGpa + offset, 4, true, value}); }
  uint32_t get(uint64_t offset, uint8_t size = 4) {
    return static_cast<uint32_t>(net.read({Space::kMmio, kGpa + offset, size, false, 0}));
  }

  void set_up(uint32_t queue, const Ring& ring) {
    set(0x30, queue);
    set(0x38, ring.size);
    set(0x80, static_cast<uint32_t>(ring.descriptors));
    set(0x90, static_cast<uint32_t>(ring.available));
    set(0xa0, static_cast<uint32_t>(ring.used));
    set(0x44, 1);
  }
  void bring_up() {
    set(0x70, 0);
    set(0x70, 3);
    set(0x24, 0);
    set(0x20, 1 << 3 | 1 << 5);
    set(0x24, 1);
    set(0x20, 1);
    set(0x70, 0xb);
    set_up(0, receive);
    set_up(1, transmit);
    set(0x70, 0xf);
  }
  void describe(const Ring& ring, uint16_t index, uint64_t gpa, uint32_t bytes, uint16_t flags,
                uint16_t next = 0) {
    memory.store(ring.descriptors + index * 16, gpa);
    memory.store(ring.descriptors + index * 16 + 8, bytes);
    memory.store(ring.descriptors + index * 16 + 12, flags);
    memory.store(ring.descriptors + index * 16 + 14, next);
  }
  void offer(Ring& ring, uint16_t head) {
    memory.store<uint16_t>(ring.available + 4 + ring.next % ring.size * 2, head);
    memory.store<uint16_t>(ring.available + 2, ++ring.next);
  }
  uint16_t used(const Ring& ring) {
    uint16_t index = 0;
    memory.load(ring.used + 2, &index);
    return index;
  }
  bool needs_reset() { return get(0x70) & 64; }
  void packet(const Bytes& frame) { net.input({InputKind::kPacket, 0, frame}); }
};

Bytes random_frame(size_t size) {
  Bytes frame(size);
  for (uint8_t& byte : frame) byte = static_cast<uint8_t>(below(256));
  return frame;
}

}  // namespace

TEST(a_network_card_says_what_it_is) {
  Bench bench;
  CHECK(bench.get(0) == 0x74726976);
  CHECK(bench.get(4) == 2);
  CHECK(bench.get(8) == 1);
  CHECK(bench.get(0x10) == (1 << 3 | 1 << 5));
  bench.set(0x14, 1);
  CHECK(bench.get(0x10) == 1);
  CHECK(bench.get(0x34) == 256);
  CHECK(bench.get(0x100, 1) == 2);
  CHECK(bench.get(0x102, 2) == 0x0302);  // bytes 2 and 3 of 02:01:02:03:04:05
  CHECK(bench.get(0x106, 2) == 1);
  CHECK(bench.get(0x10a, 2) == 1500);
  CHECK(bench.get(0xb0) == 0xffffffff);  // no shared memory
}

TEST(features_that_were_not_offered_are_refused) {
  Bench bench;
  bench.set(0x70, 3);
  bench.set(0x24, 1);
  bench.set(0x20, 1);
  bench.set(0x24, 0);
  bench.set(0x20, 1);  // checksums
  bench.set(0x70, 0xb);
  CHECK(bench.get(0x70) == 3);
  bench.set(0x20, 0);
  bench.set(0x70, 0xb);
  CHECK(bench.get(0x70) == 0xb);
}

TEST(frames_leave_whole_and_in_order) {
  Bench bench;
  bench.bring_up();
  const Bytes first = random_frame(60), second = random_frame(1514);
  // The first in one piece, the second cut at odd places, an empty piece among them.
  bench.memory.write(0x10000 + kHeaderBytes, first);
  bench.describe(bench.transmit, 0, 0x10000, kHeaderBytes + 60, 0);
  bench.memory.write(0x20000, std::span(second).first(100));
  bench.memory.write(0x30000, std::span(second).subspan(100));
  bench.describe(bench.transmit, 1, 0x18000, 5, kNext, 2);
  bench.describe(bench.transmit, 2, 0x18000, 7, kNext, 5);
  bench.describe(bench.transmit, 5, 0x18000, 0, kNext, 3);
  bench.describe(bench.transmit, 3, 0x20000, 100, kNext, 4);
  bench.describe(bench.transmit, 4, 0x30000, 1414, 0);
  bench.offer(bench.transmit, 0);
  bench.offer(bench.transmit, 1);
  bench.set(0x50, 1);
  CHECK(bench.outside.frames == std::vector<Bytes>{first, second});
  CHECK(bench.used(bench.transmit) == 2);
  CHECK(bench.net.counts().frames_out == 2 && bench.net.counts().bytes_out == 1574);
  CHECK(bench.get(0x60) == 1 && bench.outside.vectors.size() == 1);
  bench.set(0x64, 1);
  CHECK(bench.get(0x60) == 0);
}

TEST(packets_find_their_buffers) {
  Bench bench;
  bench.memory.store<uint16_t>(bench.receive.available, 1);  // no interrupts
  bench.bring_up();
  bench.memory.store<uint16_t>(bench.receive.available, 1);
  CHECK(bench.net.room() == 0);
  bench.describe(bench.receive, 3, 0x40000, 20, kWrite | kNext, 6);
  bench.describe(bench.receive, 6, 0x50000, 2048, kWrite);
  bench.offer(bench.receive, 3);
  CHECK(bench.net.room() == 1);
  const Bytes frame = random_frame(700);
  bench.packet(frame);
  bench.packet(random_frame(100));  // no room: lost
  CHECK(bench.used(bench.receive) == 1);
  uint32_t element[2];
  bench.memory.load(bench.receive.used + 4, &element);
  CHECK(element[0] == 3 && element[1] == kHeaderBytes + 700);
  const auto head = bench.memory.view(0x40000, 20), tail = bench.memory.view(0x50000, 692);
  CHECK(head[10] == 1 && head[11] == 0);
  CHECK(std::equal(head.begin() + 12, head.end(), frame.begin()));
  CHECK(std::equal(tail.begin(), tail.end(), frame.begin() + 8));
  CHECK(bench.net.counts().dropped_in == 1);
  CHECK(bench.get(0x60) == 0 && bench.outside.vectors.empty());
}

TEST(frames_of_a_wrong_length_are_dropped_and_given_back) {
  Bench bench;
  bench.bring_up();
  bench.describe(bench.transmit, 0, 0x10000, kHeaderBytes + 13, 0);
  bench.describe(bench.transmit, 1, 0x10000, kHeaderBytes + 1519, 0);
  bench.describe(bench.transmit, 2, 0x10000, 100, kWrite);
  for (uint16_t head : {0, 1, 2}) bench.offer(bench.transmit, head);
  bench.set(0x50, 1);
  CHECK(bench.outside.frames.empty());
  CHECK(bench.used(bench.transmit) == 3 && !bench.needs_reset());
  CHECK(bench.net.counts().dropped_out == 3);
}

TEST(a_driver_that_breaks_the_rules_must_reset) {
  const auto breaks = [](auto prepare) {
    Bench bench;
    bench.bring_up();
    prepare(bench);
    bench.set(0x50, 1);
    CHECK(bench.needs_reset());
    CHECK(bench.get(0x60) & 2);
    CHECK(bench.outside.frames.empty());
    CHECK(bench.net.room() == 0);
    bench.receive.next = bench.transmit.next = 0;
    bench.memory.store<uint32_t>(bench.transmit.available, 0);
    bench.bring_up();
    CHECK(!bench.needs_reset());
  };
  breaks([](Bench& b) {  // a loop
    b.describe(b.transmit, 0, 0x10000, 100, kNext, 1);
    b.describe(b.transmit, 1, 0x10000, 100, kNext, 0);
    b.offer(b.transmit, 0);
  });
  breaks([](Bench& b) { b.offer(b.transmit, 8); });                                 // no such descriptor
  breaks([](Bench& b) { b.memory.store<uint16_t>(b.transmit.available + 2, 9); });  // more than there are
  breaks([](Bench& b) {                                                             // outside of memory
    b.describe(b.transmit, 0, kMemoryBytes - 50, 100, 0);
    b.offer(b.transmit, 0);
  });
  breaks([](Bench& b) {  // wraps around
    b.describe(b.transmit, 0, ~0ull - 10, 100, 0);
    b.offer(b.transmit, 0);
  });
  breaks([](Bench& b) {
    b.describe(b.transmit, 0, 0x10000, 16, kIndirect);
    b.offer(b.transmit, 0);
  });
  breaks([](Bench& b) {  // writable before readable
    b.describe(b.transmit, 0, 0x10000, 100, kWrite | kNext, 1);
    b.describe(b.transmit, 1, 0x10000, 100, 0);
    b.offer(b.transmit, 0);
  });
}

TEST(queues_must_lie_in_memory) {
  for (uint64_t where : {kMemoryBytes - 16, ~uint64_t{15}, uint64_t{0x1001}}) {
    Bench bench;
    bench.transmit.descriptors = where;
    bench.bring_up();
    bench.set(0x30, 1);
    bench.set(0x84, static_cast<uint32_t>(where >> 32));
    CHECK(bench.needs_reset() || bench.get(0x44) == 0);
  }
  Bench bench;
  bench.transmit.size = 7;
  bench.bring_up();
  CHECK(bench.needs_reset());
}

TEST(our_kernel_needs_no_notification) {
  Outside outside;
  GuestMemory memory(kMemoryBytes);
  const CpuModel model = CpuModel::build("");
  const std::array<uint8_t, 32> seed{};
  Board board(outside, memory, model, seed, true, VirtioNetConfig{kGpa, {2}, 1500, false});
  auto set = [&](uint64_t offset, uint32_t value) {
    board.write({Space::kMmio, kGpa + offset, 4, true, value});
  };
  set(0x24, 1);
  set(0x20, 1);
  set(0x70, 0xb);
  for (uint32_t queue : {0, 1}) {
    set(0x30, queue);
    set(0x38, 4);
    set(0x80, 0x100000 + queue * 0x3000);
    set(0x90, 0x101000 + queue * 0x3000);
    set(0xa0, 0x102000 + queue * 0x3000);
    set(0x44, 1);
  }
  set(0x70, 0xf);
  const Bytes frame = random_frame(64);
  memory.write(0x110000 + kHeaderBytes, frame);
  memory.store<uint64_t>(0x103000, 0x110000);
  memory.store<uint32_t>(0x103008, kHeaderBytes + 64);
  memory.store<uint16_t>(0x104002, 1);
  memory.store<uint64_t>(0x100000, 0x120000);
  memory.store<uint32_t>(0x100008, 2048);
  memory.store<uint16_t>(0x10000c, kWrite);
  memory.store<uint16_t>(0x101002, 1);
  const Access exchange{Space::kPort, LS_PORT_EXCHANGE, 1, true, 0};
  board.write(exchange);
  CHECK(outside.frames == std::vector<Bytes>{frame});
  CHECK(board.want(exchange).packets == 1);
  CHECK(board.want({Space::kPort, LS_PORT_RANDOM, 1, true, 0}).packets == 0);
  Event event;
  event.inputs.push_back({InputKind::kPacket, 0, frame});
  board.apply(event);
  CHECK(board.want(exchange).packets == 0);
  const auto got = memory.view(0x120000 + kHeaderBytes, 64);
  CHECK(std::equal(got.begin(), got.end(), frame.begin()));
  CHECK(outside.vectors.empty());
}

// Garbage in rings and registers, half of it near what makes sense: nothing is read or written outside of
// memory (GuestMemory would refuse, the sanitizers would tell), and a card restored from its saved state at
// any step goes on as the other does.
TEST(hostile_rings_and_restoring_at_every_step) {
  for (int round = 0; round < 60; round++) {
    Bench one, other;
    one.bring_up();
    other.bring_up();
    auto both = [&](auto change) { change(one), change(other); };
    for (int step = 0; step < 300; step++) {
      const uint64_t kind = below(10), a = lockstep::test::random()(), b = lockstep::test::random()(),
                     c = lockstep::test::random()();
      if (kind < 4) {
        both([&](Bench& bench) {
          const Ring& ring = a % 2 ? bench.receive : bench.transmit;
          bench.describe(ring, b % 8, c % 4 ? c % kMemoryBytes : c, c % 3 ? b % 3000 : b,
                         c % 16 ? (a >> 8) % 4 : static_cast<uint16_t>(a >> 8), (a >> 24) % 9);
        });
      } else if (kind < 6) {
        both([&](Bench& bench) {
          Ring& ring = a % 2 ? bench.receive : bench.transmit;
          if (b % 40)
            bench.offer(ring, b % 8);
          else
            bench.memory.store<uint16_t>(ring.available + b % 4, static_cast<uint16_t>(c));
        });
      } else if (kind < 8) {
        const Bytes frame = random_frame(below(1600));
        both([&](Bench& bench) { bench.packet(frame); });
      } else if (kind < 9) {
        both([&](Bench& bench) { bench.set(0x50, b % 3); });
      } else if (below(4) == 0) {
        const unsigned shift = below(32);
        both([&](Bench& bench) { bench.set(b % 64 * 4, static_cast<uint32_t>(c >> shift)); });
      } else if (one.needs_reset()) {
        both([&](Bench& bench) {
          bench.receive.next = bench.transmit.next = 0;
          bench.memory.store<uint32_t>(bench.receive.available, 0);
          bench.memory.store<uint32_t>(bench.transmit.available, 0);
          bench.bring_up();
        });
      }
      StateWriter saved, same;
      one.net.save(saved);
      other.net.save(same);
      CHECK(saved.bytes() == same.bytes());
      StateReader reader(saved.bytes());
      other.net.restore(reader);
    }
    CHECK(one.outside.frames == other.outside.frames);
    const auto left = one.memory.view(0, kMemoryBytes), right = other.memory.view(0, kMemoryBytes);
    CHECK(std::equal(left.begin(), left.end(), right.begin()));
  }
}
