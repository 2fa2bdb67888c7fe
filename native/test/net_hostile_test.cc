// What strangers send at the guest kernel's network stack: floods, garbage, peers that vanish. Memory stays
// bounded.
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "test/check.h"
#include "test/net_world.h"

using namespace lockstep::test;

namespace {

constexpr int64_t kAllowedBytes = 16 << 20;

uint16_t sum(const uint8_t* p, size_t n, uint64_t s = 0) {
  for (size_t i = 0; i < n; i++) s += i % 2 ? p[i] : p[i] << 8;
  while (s >> 16) s = (s & 0xffff) + (s >> 16);
  return static_cast<uint16_t>(~s);
}

void put16(uint8_t* p, uint16_t v) { p[0] = v >> 8, p[1] = v & 0xff; }
void put32(uint8_t* p, uint32_t v) { put16(p, v >> 16), put16(p + 2, v & 0xffff); }
uint32_t get32(const uint8_t* p) { return uint32_t(p[0]) << 24 | p[1] << 16 | p[2] << 8 | p[3]; }

// A TCP segment to 10.0.0.2 with good checksums; the options' bytes are a multiple of four.
Frame segment(uint32_t from, uint16_t from_port, uint32_t seq, uint32_t ack, uint8_t flags,
              const std::vector<uint8_t>& data = {}, const std::vector<uint8_t>& options = {}) {
  const size_t head = 20 + options.size();
  Frame f(14 + 20 + head + data.size());
  const uint8_t mac[6] = {2, 0, 0, 0, 0, 2};
  memcpy(&f[0], mac, 6);
  f[6] = 2, f[11] = 99, f[12] = 8;
  uint8_t *ip = &f[14], *tcp = ip + 20;
  ip[0] = 0x45, ip[8] = 64, ip[9] = 6;
  put16(ip + 2, static_cast<uint16_t>(f.size() - 14));
  put32(ip + 12, from), put32(ip + 16, 0x0a000002);
  put16(ip + 10, sum(ip, 20));
  put16(tcp, from_port), put16(tcp + 2, 7);
  put32(tcp + 4, seq), put32(tcp + 8, ack);
  tcp[12] = static_cast<uint8_t>(head / 4 << 4), tcp[13] = flags;
  put16(tcp + 14, 65535);
  if (!options.empty()) memcpy(tcp + 20, options.data(), options.size());
  if (!data.empty()) memcpy(tcp + head, data.data(), data.size());
  uint64_t pseudo = (from >> 16) + (from & 0xffff) + 0x0a00 + 2 + 6 + head + data.size();
  put16(tcp + 16, sum(tcp, head + data.size(), pseudo));
  return f;
}

struct Victim {
  Victim() : stack("victim", net_config_of(0x0a000002, 2)) {
    stack.transmit = [this](Frame f) { sent.push_back(std::move(f)); };
    stack.enter();
    net_configure(0x0a000002, 0xffffff00, 0x0a000001);
    teach();
    CHECK(socket_open(AF_INET, SOCK_STREAM, 0, &listener) == 0 && socket_bind(listener, {0, 7}) == 0);
    CHECK(socket_listen(listener, 4096) == 0);
    before = world_pages;
  }
  // Frames to strangers must not wait for ARP: the gateway says where it is.
  void teach() {
    Frame arp(42);
    const uint8_t head[22] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 2};
    memcpy(arp.data(), head, sizeof head);
    arp[22] = 2, arp[27] = 1;
    put32(&arp[28], 0x0a000001);
    arp[32] = 2, arp[37] = 2;
    put32(&arp[38], 0x0a000002);
    net_input(arp.data(), arp.size());
  }
  void give(const Frame& f) {
    net_input(f.data(), f.size());
    net_flush();
  }
  // Handshake; the sequence number that the victim chose, or 0.
  uint32_t open(uint32_t ip, uint16_t port, const std::vector<uint8_t>& options = {}) {
    sent.clear();
    give(segment(ip, port, 1000, 0, 0x02, {}, options));
    auto answer =
        std::find_if(sent.begin(), sent.end(), [](const Frame& f) { return f[23] == 6 && f[47] == 0x12; });
    if (answer == sent.end()) return 0;
    uint32_t theirs = get32(&(*answer)[38]);
    give(segment(ip, port, 1001, theirs + 1, 0x10));
    return theirs + 1;
  }
  void pass(uint64_t ns) {
    for (uint64_t end = world_now + ns; net_timer_due() <= end;) {
      world_now = std::max(world_now, net_timer_due());
      net_timers();
      sent.clear();
    }
  }
  NetStack stack;
  struct socket* listener = nullptr;
  std::vector<Frame> sent;
  int64_t before;
};

}  // namespace

TEST(net_hostile_syn_flood_is_bounded_and_locks_nobody_out) {
  Victim v;
  for (uint32_t i = 0; i < 100000; i++) {
    v.give(segment(0xc0a80000 + i, static_cast<uint16_t>(1024 + i % 50000), i, 0, 0x02));
    v.sent.clear();
  }
  CHECK(world_pages - v.before <= kAllowedBytes);
  CHECK(v.open(0x0b000001, 5555) != 0);
  struct socket* accepted = nullptr;
  CHECK(socket_accept(v.listener, &accepted) == 0);
  socket_close(accepted);
  v.pass(400'000'000'000);
  CHECK(world_pages - v.before <= 1 << 16);
}

TEST(net_hostile_vanished_peers_are_bounded) {
  Victim v;
  int64_t peak = 0;
  for (uint32_t i = 0; i < 100000; i++) {
    uint32_t ip = 0x0b000000 + i;
    uint32_t ack = v.open(ip, 5000);
    if (i % 3 == 1 && ack) v.give(segment(ip, 5000, 1001 + 5000, ack, 0x18, std::vector<uint8_t>(1000, 'x')));
    struct socket* accepted = nullptr;
    if (i % 3 != 2 && socket_accept(v.listener, &accepted) == 0) {
      std::vector<uint8_t> reply(20000, 'y');
      socket_send(accepted, reply.data(), reply.size(), 0, nullptr);
      socket_close(accepted);
    }
    v.sent.clear();
    world_now += 100'000;
    net_timers();
    peak = std::max(peak, world_pages - v.before);
  }
  printf("# at most: %lld KiB\n", static_cast<long long>(peak) / 1024);
  CHECK(peak <= kAllowedBytes);
  struct socket* accepted = nullptr;
  while (socket_accept(v.listener, &accepted) == 0) socket_close(accepted);
  printf("# at the end: %lld KiB\n", static_cast<long long>(world_pages - v.before) / 1024);
  CHECK(world_pages - v.before <= kAllowedBytes);
  v.pass(4'000'000'000'000);
  printf("# after some time: %lld KiB\n", static_cast<long long>(world_pages - v.before) / 1024);
  CHECK(world_pages - v.before <= 1 << 16);
}

TEST(net_hostile_data_before_accept_is_bounded_and_comes_again_after_it) {
  Victim v;
  const std::vector<uint8_t> data(1400, 'x');
  uint32_t last = 0;
  for (uint32_t i = 0; i < 4000; i++) {
    last = v.open(0x0b000000 + i, 5000);
    CHECK(last != 0);
    for (uint32_t n = 0; n < 5; n++) v.give(segment(0x0b000000 + i, 5000, 1001 + n * 1400, last, 0x18, data));
  }
  CHECK(world_pages - v.before <= kAllowedBytes);
  struct socket *accepted = nullptr, *s;
  for (int i = 0; i < 4000; i++) {
    CHECK(socket_accept(v.listener, &s) == 0);
    if (i == 0) CHECK(socket_unread(s) == 7000);
    if (i == 3999)
      accepted = s;
    else
      socket_close(s);
  }
  CHECK(socket_unread(accepted) == 0);  // refused then
  v.give(segment(0x0b000000 + 3999, 5000, 1001, last, 0x18, data));
  CHECK(socket_unread(accepted) == 1400);
  socket_close(accepted);
  v.pass(4'000'000'000'000);
  CHECK(world_pages - v.before <= 1 << 16);
}

TEST(net_hostile_vanished_peers_leave_a_download_alone) {
  Victim v;
  const std::vector<uint8_t> reply(200000, 'y');
  struct socket* accepted = nullptr;
  uint32_t ack = v.open(0x0b000001, 5000);
  CHECK(ack != 0 && socket_accept(v.listener, &accepted) == 0);
  CHECK(socket_send(accepted, reply.data(), reply.size(), 0, nullptr) == 200000);
  socket_close(accepted);
  v.give(segment(0x0b000001, 5000, 1001, ack + 1000, 0x10));
  for (uint32_t i = 0; i < 400; i++) {  // fewer than there may be, but they hold more than they may
    CHECK(v.open(0x0c000000 + i, 5000) != 0 && socket_accept(v.listener, &accepted) == 0);
    socket_send(accepted, reply.data(), 60000, 0, nullptr);
    socket_close(accepted);
  }
  CHECK(world_pages - v.before <= kAllowedBytes);
  v.sent.clear();
  v.give(segment(0x0b000001, 5000, 1001, ack + 2000, 0x10));
  CHECK(!v.sent.empty());
  for (const Frame& f : v.sent) CHECK(!(f[47] & 0x04) && f.size() > 500);  // its segments are of 536
}

TEST(net_hostile_garbage_is_survived) {
  Victim v;
  auto& draw = lockstep::test::random();
  uint32_t ack = v.open(0x0b000001, 5000);
  for (int i = 0; i < 300000; i++) {
    Frame f = segment(0x0b000001, 5000, 1001 + static_cast<uint32_t>(draw() % 70000),
                      ack + static_cast<uint32_t>(draw() % 3), static_cast<uint8_t>(draw()),
                      std::vector<uint8_t>(draw() % 1400));
    if (draw() % 2) f[14 + draw() % (f.size() - 14)] = static_cast<uint8_t>(draw());
    if (draw() % 8 == 0) f.resize(draw() % f.size());
    v.give(f);
    v.sent.clear();
    world_now += draw() % 10'000'000;
    net_timers();
    if (i % 1000 == 0) {
      struct socket* accepted = nullptr;
      while (socket_accept(v.listener, &accepted) == 0) socket_close(accepted);
      ack = v.open(0x0b000001, 5000);
    }
  }
  CHECK(world_pages - v.before <= kAllowedBytes);
}

namespace {

constexpr uint32_t kLiar = 0x0b000001;
constexpr uint16_t kLiarPort = 5000;
// MSS 1460, a window 2^7 as wide as it says, SACK permitted.
const std::vector<uint8_t> kSackOptions = {2, 4, 5, 0xb4, 1, 3, 3, 7, 1, 1, 4, 2};

using Blocks = std::vector<std::pair<uint32_t, uint32_t>>;

std::vector<uint8_t> sack_option(const Blocks& blocks) {
  std::vector<uint8_t> option = {1, 1, 5, static_cast<uint8_t>(2 + 8 * blocks.size())};
  for (auto [start, end] : blocks) {
    option.resize(option.size() + 8);
    put32(&option[option.size() - 8], start), put32(&option[option.size() - 4], end);
  }
  return option;
}

// A connection on which the victim has a megabyte to say to somebody who lies about what arrived.
struct Deceived : Victim {
  explicit Deceived(bool near_wrap) {
    if (near_wrap) {
      // The number the victim begins with goes up by one in 64 ns: let it be where the megabyte wraps.
      struct socket* s = nullptr;
      uint32_t now = open(kLiar, kLiarPort, kSackOptions) - 1;
      CHECK(socket_accept(listener, &s) == 0);
      give(segment(kLiar, kLiarPort, 1001, now + 1, 0x04));
      socket_close(s);
      world_now += 64ull * static_cast<uint32_t>(0xffff8000u - now);
      net_timers();
      teach();
    }
    first = open(kLiar, kLiarPort, kSackOptions);
    CHECK(first != 0 && socket_accept(listener, &server) == 0);
    if (near_wrap) CHECK(first > 0xffff0000u);
    feed();
  }
  void feed() {
    static const std::vector<uint8_t> data(1 << 20, 'z');
    for (long did = 1; fed < data.size() && did > 0; fed += did > 0 ? static_cast<size_t>(did) : 0)
      did = socket_send(server, data.data() + fed, data.size() - fed, 0, nullptr);
    net_flush();
  }
  void ack(uint32_t number, const Blocks& blocks = {}) {
    give(segment(kLiar, kLiarPort, 1001, number, 0x10, {},
                 blocks.empty() ? std::vector<uint8_t>{} : sack_option(blocks)));
  }
  void wait(uint64_t ns) {
    world_now += ns;
    teach();
    net_timers();
    net_flush();
  }
  // Where the next byte is that never came, if the victim's segments so far are all that came.
  uint32_t take(uint32_t expected) {
    for (bool more = true; more;) {
      more = false;
      for (const Frame& f : sent) {
        if (f.size() <= 54 || f[23] != 6) continue;
        const uint32_t at = get32(&f[38]), bytes = static_cast<uint32_t>(f.size()) - 34 - (f[46] >> 4) * 4u;
        if (static_cast<int32_t>(at - expected) > 0 || static_cast<int32_t>(at + bytes - expected) <= 0)
          continue;
        expected = at + bytes;
        more = true;
      }
    }
    sent.clear();
    return expected;
  }
  // From now on the peer is honest: all the rest must come.
  void check_that_all_comes(uint32_t have) {
    for (int i = 0; i < 20000 && have != first + (1 << 20); i++) {
      ack(have);
      feed();
      wait(20'000'000);
      have = take(have);
    }
    CHECK(have == first + (1 << 20));
    ack(have);
    CHECK(fed == 1 << 20 && socket_unsent(server) == 0);
    socket_close(server);
    give(segment(kLiar, kLiarPort, 1001, have, 0x04));
    pass(4'000'000'000'000);
    CHECK(world_pages - before <= 1 << 16);
  }
  struct socket* server = nullptr;
  uint32_t first = 0;
  size_t fed = 0;
};

}  // namespace

TEST(net_hostile_sack_blocks_that_cannot_be_change_nothing) {
  for (bool near_wrap : {false, true}) {
    Deceived v(near_wrap);
    const uint32_t una = v.first, out = v.take(una);
    CHECK(out - una == 14600);
    const uint64_t retransmits = net_counters()->retransmits;
    for (const Blocks& blocks : {
             Blocks{{una + 5000, una + 2000}},                                       // reversed
             Blocks{{una + 2000, una + 2000}},                                       // empty
             Blocks{{una - 3000, una - 1000}, {una - 1, una}, {una - 1, una + 1}},   // long acknowledged
             Blocks{{out, out + 1460}, {out - 1460, out + 1}, {una, out + 1}},       // never sent
             Blocks{{una + 0x40000000, una + 0x40001000}, {una, una + 0x7fffffff}},  // far off
             Blocks{{una + 0x80000000, una + 0x80001000}, {una + 0x80000001, una}},
         })
      for (int i = 0; i < 100; i++) v.ack(una, blocks);
    CHECK(net_counters()->retransmits == retransmits);  // nothing was believed: nothing counts as lost
    CHECK(net_counters()->fast_recoveries == 0 && v.take(out) == out);
    v.check_that_all_comes(una);
  }
}

TEST(net_hostile_sack_blocks_by_the_thousand_are_bounded) {
  auto& draw = lockstep::test::random();
  for (bool near_wrap : {false, true}) {
    Deceived v(near_wrap);
    uint32_t have = v.take(v.first), una = v.first;
    int64_t peak = 0;
    uint64_t frames = 0;
    for (int i = 0; i < 100000; i++) {
      // Anywhere at all near the window: single bytes, the whole of it, overlapping, in every order.
      Blocks blocks;
      for (uint64_t n = 1 + draw() % 4; n--;) {
        const uint32_t start = una - 3000 + static_cast<uint32_t>(draw() % 60000);
        blocks.push_back({start, start + static_cast<uint32_t>(draw() % (draw() % 2 ? 3 : 6000))});
      }
      if (i % 500 == 0) una = have;
      v.ack(una, blocks);
      v.feed();
      frames += v.sent.size();
      have = v.take(have);
      v.wait(draw() % 200'000);
      peak = std::max(peak, world_pages - v.before);
    }
    printf("# 100,000 lying ACKs: at most %lld KiB, %llu frames in answer\n",
           static_cast<long long>(peak) / 1024, static_cast<unsigned long long>(frames));
    CHECK(peak <= 2 << 20);
    CHECK(frames <= 300'000);  // no lie makes an avalanche
    v.check_that_all_comes(have);
  }
}

TEST(net_hostile_sack_of_all_that_never_came_is_not_believed_for_ever) {
  for (bool near_wrap : {false, true}) {
    Deceived v(near_wrap);
    const uint32_t una = v.first, out = v.take(una);
    // Everything arrived, it says, and never acknowledges; then nothing had (RFC 2018, 8: it may say so).
    for (int i = 0; i < 100; i++) v.ack(una, {{una, out}, {una + 1, out}, {una + 1460, out}});
    uint32_t have = una;
    for (int i = 0; i < 200 && have == una; i++) {
      v.wait(100'000'000);
      have = v.take(una);
    }
    CHECK(have != una);
    v.check_that_all_comes(una);
  }
}

TEST(net_hostile_ranges_out_of_order_by_the_thousand_are_bounded) {
  auto& draw = lockstep::test::random();
  Victim v;
  const uint32_t ack = v.open(kLiar, kLiarPort, kSackOptions);
  struct socket* server = nullptr;
  CHECK(ack != 0 && socket_accept(v.listener, &server) == 0);
  int64_t peak = 0;
  uint64_t frames = 0;
  for (int i = 0; i < 100000; i++) {  // every second byte or so, never the first
    v.give(segment(kLiar, kLiarPort, 1003 + static_cast<uint32_t>(draw() % 60000), ack, 0x10,
                   std::vector<uint8_t>(1 + draw() % 2, 'x')));
    frames += v.sent.size();
    v.sent.clear();
    peak = std::max(peak, world_pages - v.before);
  }
  printf("# 100,000 bytes out of order: at most %lld KiB, %llu frames in answer\n",
         static_cast<long long>(peak) / 1024, static_cast<unsigned long long>(frames));
  CHECK(peak <= 1 << 20 && frames <= 110'000);
  // All the same what is in order arrives, over what came before.
  const std::vector<uint8_t> data(1000, 'x');
  for (uint32_t at = 0; at < 61000; at += 1000) v.give(segment(kLiar, kLiarPort, 1001 + at, ack, 0x18, data));
  static char got[65536];
  CHECK(socket_receive(server, got, sizeof got, 0, nullptr) == 61000);
  for (int i = 0; i < 61000; i++) CHECK(got[i] == 'x');
  v.give(segment(kLiar, kLiarPort, 1001 + 61000, ack, 0x04));
  socket_close(server);
  v.pass(4'000'000'000'000);
  CHECK(world_pages - v.before <= 1 << 16);
}
