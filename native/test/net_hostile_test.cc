// What strangers send at the guest kernel's network stack: floods, garbage, peers that vanish. Memory stays
// bounded.
#include <poll.h>
#include <sys/socket.h>

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

// A TCP segment to 10.0.0.2 with good checksums.
Frame segment(uint32_t from, uint16_t from_port, uint32_t seq, uint32_t ack, uint8_t flags,
              const std::vector<uint8_t>& data = {}) {
  Frame f(14 + 20 + 20 + data.size());
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
  tcp[12] = 0x50, tcp[13] = flags;
  put16(tcp + 14, 65535);
  if (!data.empty()) memcpy(tcp + 20, data.data(), data.size());
  uint64_t pseudo = (from >> 16) + (from & 0xffff) + 0x0a00 + 2 + 6 + 20 + data.size();
  put16(tcp + 16, sum(tcp, 20 + data.size(), pseudo));
  return f;
}

struct Victim {
  Victim() : stack("victim", net_config_of(0x0a000002, 2)) {
    stack.transmit = [this](Frame f) { sent.push_back(std::move(f)); };
    stack.enter();
    // Frames to strangers must not wait for ARP: let it know the gateway.
    net_configure(0x0a000002, 0xffffff00, 0x0a000001);
    Frame arp(42);
    const uint8_t head[22] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 2};
    memcpy(arp.data(), head, sizeof head);
    arp[22] = 2, arp[27] = 1;
    put32(&arp[28], 0x0a000001);
    arp[32] = 2, arp[37] = 2;
    put32(&arp[38], 0x0a000002);
    net_input(arp.data(), arp.size());
    CHECK(socket_open(AF_INET, SOCK_STREAM, 0, &listener) == 0 && socket_bind(listener, {0, 7}) == 0);
    CHECK(socket_listen(listener, 4096) == 0);
    before = world_pages;
  }
  void give(const Frame& f) {
    net_input(f.data(), f.size());
    net_flush();
  }
  // Handshake; the sequence number that the victim chose, or 0.
  uint32_t open(uint32_t ip, uint16_t port) {
    sent.clear();
    give(segment(ip, port, 1000, 0, 0x02));
    if (sent.empty() || sent.back()[47] != 0x12) return 0;
    uint32_t theirs = get32(&sent.back()[38]);
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
