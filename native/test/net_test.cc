// The guest kernel's TCP against itself, over links that lose, repeat, delay and reorder, in virtual time.
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>

#include "test/check.h"
#include "test/net_world.h"

using namespace lockstep::test;

namespace {

constexpr uint16_t kPort = 7;

uint8_t byte_at(uint64_t seed, uint64_t at) {
  uint64_t x = (at >> 3) * 0x9e3779b97f4a7c15 + seed;
  x ^= x >> 29;
  return static_cast<uint8_t>((x * 0xbf58476d1ce4e5b9) >> (8 + (at & 7) * 6));
}

// One end of a conversation: sends `total` bytes, takes as many, then closes.
struct Talker {
  NetStack* stack;
  struct socket* s = nullptr;
  uint64_t send_seed, receive_seed, total_out, total_in;
  uint64_t sent = 0, received = 0;
  bool shut = false, ended = false, wrong = false, closed = false;
  int error = 0;
  size_t chunk = 65536;
  bool reads = true;

  void work() {
    if (s == nullptr || closed) return;
    stack->enter();
    static std::vector<uint8_t> buffer(1 << 20);
    while (sent < total_out) {
      size_t n = std::min<uint64_t>(chunk, total_out - sent);
      for (size_t i = 0; i < n; i++) buffer[i] = byte_at(send_seed, sent + i);
      long did = socket_send(s, buffer.data(), n, 0, nullptr);
      if (did == -EAGAIN) break;
      if (did < 0) {
        error = static_cast<int>(-did);
        return;
      }
      sent += static_cast<uint64_t>(did);
    }
    if (sent == total_out && !shut) shut = socket_shutdown(s, 1) == 0;
    while (reads && !ended) {
      long did = socket_receive(s, buffer.data(), chunk, 0, nullptr);
      if (did == -EAGAIN) break;
      if (did < 0) {
        error = static_cast<int>(-did);
        return;
      }
      if (did == 0) ended = true;
      for (long i = 0; i < did; i++)
        wrong |= buffer[static_cast<size_t>(i)] != byte_at(receive_seed, received++);
    }
  }
  void close() {
    if (s == nullptr || closed) return;
    stack->enter();
    socket_close(s);
    closed = true;
  }
  bool done() const { return shut && ended; }
};

struct socket* listen_on(NetStack& stack, uint16_t port) {
  stack.enter();
  struct socket* s = nullptr;
  CHECK(socket_open(AF_INET, SOCK_STREAM, 0, &s) == 0);
  CHECK(socket_bind(s, {0, port}) == 0);
  CHECK(socket_listen(s, 16) == 0);
  return s;
}

struct socket* connect_to(NetStack& stack, uint32_t ip, uint16_t port) {
  stack.enter();
  struct socket* s = nullptr;
  CHECK(socket_open(AF_INET, SOCK_STREAM, 0, &s) == 0);
  CHECK(socket_connect(s, {ip, port}) == -EINPROGRESS);
  return s;
}

// Both ways at once; true when all arrived, intact, and both ended.
bool converse(NetWorld& world, uint64_t bytes_ab, uint64_t bytes_ba, size_t chunk = 65536) {
  struct socket* listener = listen_on(world.b, kPort);
  Talker a{&world.a, connect_to(world.a, 0x0a000002, kPort), 1, 2, bytes_ab, bytes_ba};
  Talker b{&world.b, nullptr, 2, 1, bytes_ba, bytes_ab};
  a.chunk = b.chunk = chunk;
  bool ok = world.run([&] {
    world.b.enter();
    if (b.s == nullptr) socket_accept(listener, &b.s);
    a.work();
    b.work();
    return a.error || b.error || (a.done() && b.done());
  });
  ok = ok && !a.error && !b.error && !a.wrong && !b.wrong && a.received == bytes_ba && b.received == bytes_ab;
  if (!ok)
    printf(
        "# a: sent %llu received %llu error %d wrong %d ended %d; b: sent %llu received %llu error %d wrong "
        "%d ended %d\n",
        (unsigned long long)a.sent, (unsigned long long)a.received, a.error, a.wrong, a.ended,
        (unsigned long long)b.sent, (unsigned long long)b.received, b.error, b.wrong, b.ended);
  a.close();
  b.close();
  world.b.enter();
  socket_close(listener);
  return ok;
}

}  // namespace

TEST(net_transfers_small_amounts_over_bad_links) {
  uint64_t first = lockstep::test::random()() >> 1;
  for (uint64_t seed = first; seed < first + 2000; seed++) {
    int64_t before = world_pages;
    {
      std::mt19937_64 draw(seed);
      LinkOptions link{double(draw() % 11) / 100, double(draw() % 10) / 100, double(draw() % 30) / 100,
                       100'000 + draw() % 100'000'000, draw() % 20'000'000};
      NetWorld world(seed, link);
      bool ok = converse(world, draw() % 50000, draw() % 50000, 1 + draw() % 8000);
      if (!ok) printf("# link seed %llu\n", (unsigned long long)seed);
      CHECK(ok);
      CHECK(world.run([] { return false; }, 300'000'000'000) == false);  // TIME_WAIT passes
    }
    if (world_pages != before)
      printf("# seed %llu: %lld bytes left over\n", (unsigned long long)seed,
             (long long)(world_pages - before));
    CHECK(world_pages == before);
  }
}

TEST(net_transfers_100_mib_both_ways) {
  struct {
    const char* name;
    LinkOptions link;
  } cases[] = {
      {"lan", {0, 0, 0, 100'000, 0}},
      {"lossy", {0.01, 0.005, 0, 5'000'000, 0}},
      {"50 ms, 1% loss, reordering, duplicates", {0.01, 0.005, 0.01, 50'000'000, 0}},
  };
  for (auto& each : cases) {
    uint64_t seed = lockstep::test::random()();
    NetWorld world(seed, each.link);
    uint64_t start = world_now;
    CHECK(converse(world, 100 << 20, 100 << 20));
    world.a.enter();
    const struct net_counters* c = net_counters();
    printf(
        "# %s: %.2f MB/s each way in virtual time; retransmits %llu timeouts %llu fast %llu spurious %llu\n",
        each.name, (100 << 20) / 1e6 / (double(world_now - start) / 1e9), (unsigned long long)c->retransmits,
        (unsigned long long)c->timeouts, (unsigned long long)c->fast_recoveries,
        (unsigned long long)c->spurious);
  }
}

TEST(net_waits_for_a_closed_window_and_goes_on) {
  // Many times where things get lost: of the windows that open and close, now this one and now that.
  for (int i = 0; i <= 20; i++) {
    NetWorld world(lockstep::test::random()(), {i ? 0.05 : 0, 0, 0, 1'000'000, 0});
    struct socket* listener = listen_on(world.b, kPort);
    Talker a{&world.a, connect_to(world.a, 0x0a000002, kPort), 1, 2, 4 << 20, 0};
    Talker b{&world.b, nullptr, 2, 1, 0, 4 << 20};
    b.reads = false;
    auto work = [&] {
      world.b.enter();
      if (b.s == nullptr) socket_accept(listener, &b.s);
      a.work(), b.work();
      return a.error || b.error || (a.done() && b.done());
    };
    world.run(work, 600'000'000'000);
    CHECK(!a.error && !b.error && !a.done());
    b.reads = true;
    CHECK(world.run(work, 600'000'000'000));
    CHECK(!a.error && !b.error && !b.wrong && b.received == 4 << 20);
  }
}

TEST(net_opens_simultaneously) {
  NetWorld world(5);
  world.a.enter();
  struct socket *x, *y;
  CHECK(socket_open(AF_INET, SOCK_STREAM, 0, &x) == 0 && socket_bind(x, {0, 100}) == 0);
  CHECK(socket_connect(x, {0x0a000002, 200}) == -EINPROGRESS);
  world.b.enter();
  CHECK(socket_open(AF_INET, SOCK_STREAM, 0, &y) == 0 && socket_bind(y, {0, 200}) == 0);
  CHECK(socket_connect(y, {0x0a000001, 100}) == -EINPROGRESS);
  Talker a{&world.a, x, 1, 2, 5000, 5000}, b{&world.b, y, 2, 1, 5000, 5000};
  CHECK(world.run([&] {
    a.work(), b.work();
    return a.error || b.error || (a.done() && b.done());
  }));
  CHECK(!a.error && !b.error && !a.wrong && !b.wrong);
}

TEST(net_refuses_and_resets) {
  NetWorld world(6);
  struct socket* s = connect_to(world.a, 0x0a000002, 9);
  CHECK(world.run([&] {
    world.a.enter();
    return (socket_poll(s) & POLLERR) != 0;
  }));
  CHECK(socket_connect(s, {0x0a000002, 9}) == -ECONNREFUSED);
  socket_close(s);
  // Closing with unread data resets the peer.
  struct socket *listener = listen_on(world.b, kPort), *accepted = nullptr;
  s = connect_to(world.a, 0x0a000002, kPort);
  CHECK(world.run([&] {
    world.b.enter();
    return accepted || socket_accept(listener, &accepted) == 0;
  }));
  world.a.enter();
  CHECK(world.run([&] {
    world.a.enter();
    return socket_send(s, "hello", 5, 0, nullptr) == 5;
  }));
  CHECK(world.run([&] {
    world.b.enter();
    return socket_unread(accepted) == 5;
  }));
  socket_close(accepted);
  char byte;
  CHECK(world.run([&] {
    world.a.enter();
    return socket_receive(s, &byte, 1, 0, nullptr) == -ECONNRESET;
  }));
}

TEST(net_speaks_to_itself_over_the_loopback) {
  NetStack alone("alone", net_config_of(0, 1));
  struct socket *listener = listen_on(alone, kPort), *b = nullptr, *a;
  CHECK(socket_open(AF_INET, SOCK_STREAM, 0, &a) == 0);
  CHECK(socket_connect(a, {0x7f000001, kPort}) == 0);
  CHECK(socket_accept(listener, &b) == 0);
  Talker left{&alone, a, 1, 2, 10 << 20, 10 << 20}, right{&alone, b, 2, 1, 10 << 20, 10 << 20};
  for (int i = 0; i < 100000 && !(left.done() && right.done()); i++) {
    left.work(), right.work();
    world_now += 1000;
    net_timers();
  }
  CHECK(left.done() && right.done() && !left.wrong && !right.wrong);
}
