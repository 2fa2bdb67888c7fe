// What the guest kernel's TCP makes of a path that loses: how fast it is, in virtual time, and how it
// repairs.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <set>

#include "test/check.h"
#include "test/net_world.h"

using namespace lockstep::test;

namespace {

struct Outcome {
  double mb_per_s, seconds;
  uint64_t overflowed;
  struct net_counters counters;
};

// One way, as a download goes: `bytes` from a to b. Of the large frames those with these numbers are lost.
Outcome download(uint64_t seed, LinkOptions link, uint64_t bytes, const std::set<int>& lost = {},
                 const char* congestion = "bbr") {
  world_now = 1'000'000'000;  // whatever tests ran before: stamps are in whole milliseconds
  NetWorld world(seed, link);
  auto transmit = world.a.transmit;
  int large = 0;
  world.a.transmit = [&](Frame frame) {
    if (frame.size() < 1000 || !lost.contains(large++)) transmit(std::move(frame));
  };
  struct socket *listener, *client, *server = nullptr;
  world.b.enter();
  CHECK(socket_open(AF_INET, SOCK_STREAM, 0, &listener) == 0 && socket_bind(listener, {0, 7}) == 0);
  CHECK(socket_listen(listener, 1) == 0);
  world.a.enter();
  CHECK(socket_open(AF_INET, SOCK_STREAM, 0, &client) == 0);
  CHECK(socket_set_option(client, IPPROTO_TCP, TCP_CONGESTION, congestion, strlen(congestion)) == 0);
  CHECK(socket_connect(client, {0x0a000002, 7}) == -EINPROGRESS);
  static uint8_t buffer[65536];
  uint64_t sent = 0, received = 0, start = world_now;
  CHECK(world.run([&] {
    world.a.enter();
    for (long did = 1; sent < bytes && did > 0; sent += did > 0 ? static_cast<uint64_t>(did) : 0)
      did = socket_send(client, buffer, std::min<uint64_t>(sizeof buffer, bytes - sent), 0, nullptr);
    world.b.enter();
    if (server == nullptr) socket_accept(listener, &server);
    for (long did = 1; server != nullptr && did > 0; received += did > 0 ? static_cast<uint64_t>(did) : 0)
      did = socket_receive(server, buffer, sizeof buffer, 0, nullptr);
    return received == bytes;
  }));
  double seconds = double(world_now - start) / 1e9;
  world.a.enter();
  Outcome outcome{double(bytes) / 1e6 / seconds, seconds, world.overflowed, *net_counters()};
  socket_close(client);
  world.b.enter();
  socket_close(server), socket_close(listener);
  world.run([] { return false; }, 300'000'000'000);
  return outcome;
}

}  // namespace

// The seeds are fixed, so the speeds are the same in every run: they change only with the stack.
TEST(net_loss_is_repaired_at_speed) {
  constexpr uint64_t kBytes = 16 << 20, kSeeds = 8;
  struct {
    const char *name, *congestion;
    LinkOptions link;
    double least_mb_per_s;
  } cases[] = {
      {"50 ms each way, 1% loss", "bbr", {0.01, 0, 0, 50'000'000, 0}, 4},
      {"25 ms each way, 1% loss", "bbr", {0.01, 0, 0, 25'000'000, 0}, 9},
      {"50 ms each way, 1% loss, reordering, duplicates", "bbr", {0.01, 0.005, 0.01, 50'000'000, 0}, 3.5},
      {"50 ms each way, 0.1% loss", "bbr", {0.001, 0, 0, 50'000'000, 0}, 6},
      {"50 ms each way, 1% loss", "cubic", {0.01, 0, 0, 50'000'000, 0}, 0.145},
      {"25 ms each way, 1% loss", "cubic", {0.01, 0, 0, 25'000'000, 0}, 0.28},
      {"50 ms each way, 1% loss, reordering, duplicates", "cubic", {0.01, 0.005, 0.01, 50'000'000, 0}, 0.17},
      {"50 ms each way, 0.1% loss", "cubic", {0.001, 0, 0, 50'000'000, 0}, 0.45},
  };
  for (auto& each : cases) {
    double least = 1e9, most = 0, all = 0;
    uint64_t timeouts = 0, retransmits = 0, fast = 0, spurious = 0;
    for (uint64_t seed = 1; seed <= kSeeds; seed++) {
      Outcome o = download(seed, each.link, kBytes, {}, each.congestion);
      least = std::min(least, o.mb_per_s), most = std::max(most, o.mb_per_s), all += o.mb_per_s;
      timeouts += o.counters.timeouts, retransmits += o.counters.retransmits;
      fast += o.counters.fast_recoveries, spurious += o.counters.spurious;
    }
    printf(
        "# %s, %s: %.2f-%.2f MB/s, mean %.3f; 8 runs: retransmits %llu timeouts %llu fast %llu spurious "
        "%llu\n",
        each.congestion, each.name, least, most, all / kSeeds, (unsigned long long)retransmits,
        (unsigned long long)timeouts, (unsigned long long)fast, (unsigned long long)spurious);
    CHECK(all / kSeeds >= each.least_mb_per_s);
    // Where nothing overtakes, hardly more is sent again than was lost.
    double lost = double(kSeeds * kBytes) / 1448 * each.link.loss;
    if (each.link.reorder == 0) CHECK(double(retransmits) <= 1.2 * lost + 20);
  }
}

TEST(net_loss_at_a_bottleneck_is_rare_and_the_line_is_full) {
  for (uint64_t queue : {20'000, 60'000, 1'000'000}) {  // the path itself holds 80 kB
    LinkOptions link{0, 0, 0, 20'000'000, 0};
    link.bytes_per_s = 2'000'000, link.queue_bytes = queue;
    for (const char* congestion : {"bbr", "cubic"}) {
      const Outcome o = download(1, link, 64 << 20, {}, congestion);
      printf("# %s, 2 MB/s, queue of %llu kB: %.3f MB/s, overflowed %llu, retransmits %llu timeouts %llu\n",
             congestion, (unsigned long long)queue / 1000, o.mb_per_s, (unsigned long long)o.overflowed,
             (unsigned long long)o.counters.retransmits, (unsigned long long)o.counters.timeouts);
      CHECK(o.mb_per_s >= 1.5);
      CHECK(o.counters.retransmits <= o.overflowed + o.overflowed / 10 &&
            o.overflowed <= (64 << 20) / 1448 / 50);
    }
  }
}

TEST(net_loss_pauses_and_small_answers_do_not_slow_a_large_one) {
  LinkOptions link{0, 0, 0, 20'000'000, 0};
  link.bytes_per_s = 2'000'000, link.queue_bytes = 100'000;
  world_now = 1'000'000'000;
  NetWorld world(1, link);
  struct socket *listener, *client, *server = nullptr;
  world.b.enter();
  CHECK(socket_open(AF_INET, SOCK_STREAM, 0, &listener) == 0 && socket_bind(listener, {0, 7}) == 0);
  CHECK(socket_listen(listener, 1) == 0);
  world.a.enter();
  CHECK(socket_open(AF_INET, SOCK_STREAM, 0, &client) == 0);
  CHECK(socket_connect(client, {0x0a000002, 7}) == -EINPROGRESS);
  static uint8_t buffer[65536];
  // From client to server; how many MB/s that was.
  auto carry = [&](uint64_t bytes) {
    uint64_t sent = 0, received = 0, start = world_now;
    CHECK(world.run([&] {
      world.a.enter();
      for (long did = 1; sent < bytes && did > 0; sent += did > 0 ? static_cast<uint64_t>(did) : 0)
        did = socket_send(client, buffer, std::min<uint64_t>(sizeof buffer, bytes - sent), 0, nullptr);
      world.b.enter();
      if (server == nullptr) socket_accept(listener, &server);
      for (long did = 1; server != nullptr && did > 0; received += did > 0 ? static_cast<uint64_t>(did) : 0)
        did = socket_receive(server, buffer, sizeof buffer, 0, nullptr);
      return received == bytes;
    }));
    return double(bytes) / 1e6 / (double(world_now - start) / 1e9);
  };
  carry(4 << 20);
  for (int i = 0; i < 100; i++) carry(100);
  const double after_small = carry(1 << 20);
  for (uint64_t end = world_now + 60'000'000'000; world_now < end;) {
    world_now += 1'000'000'000;
    world.run([] { return false; }, 1);
  }
  const double after_pause = carry(1 << 20);
  printf("# after 100 small answers %.2f MB/s, after a minute's pause %.2f MB/s\n", after_small, after_pause);
  CHECK(after_small >= 1.5 && after_pause >= 1.5);
  world.a.enter(), socket_close(client);
  world.b.enter(), socket_close(server), socket_close(listener);
  world.run([] { return false; }, 300'000'000'000);
}

TEST(net_loss_of_several_in_a_window_is_repaired_in_one_round_trip) {
  const LinkOptions link{0, 0, 0, 50'000'000, 0};
  // The second window is the frames 10 to 29. One loss in it costs a round trip and a smaller window;
  // more of them cost hardly more. At most three ranges arrive between them: an ACK reports no more.
  const Outcome one = download(1, link, 150'000, {12});
  CHECK(one.counters.retransmits == 1);
  for (const std::set<int>& lost : {std::set<int>{12, 15, 18}, {10, 11, 12, 13, 14, 20, 21, 22}}) {
    const Outcome o = download(1, link, 150'000, lost);
    printf("# %zu lost: %.3f s, %.3f with one, retransmits %llu\n", lost.size(), o.seconds, one.seconds,
           (unsigned long long)o.counters.retransmits);
    CHECK(o.counters.timeouts == 0 && o.counters.fast_recoveries == 1);
    CHECK(o.counters.retransmits == lost.size());
    CHECK(o.seconds - one.seconds <= 0.11);  // a round trip is 0.1 s
  }
}
