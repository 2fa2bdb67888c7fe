// The guest kernel's sockets one call at a time: echoes, datagrams, Unix-domain streams, options.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <string>

#include "test/check.h"
#include "test/net_world.h"

using namespace lockstep::test;

namespace {

constexpr uint32_t kA = 0x0a000001, kB = 0x0a000002;

struct socket* opened(NetStack& stack, int domain, int type) {
  stack.enter();
  struct socket* s = nullptr;
  CHECK(socket_open(domain, type, 0, &s) == 0);
  return s;
}

struct socket* bound(NetStack& stack, int type, uint16_t port) {
  struct socket* s = opened(stack, AF_INET, type);
  CHECK(socket_bind(s, {0, port}) == 0);
  return s;
}

int option(struct socket* s, int level, int name) {
  int value = -12345;
  size_t size = sizeof value;
  CHECK(socket_get_option(s, level, name, &value, &size) == 0);
  CHECK(size == sizeof value);
  return value;
}

void set(struct socket* s, int level, int name, int value) {
  CHECK(socket_set_option(s, level, name, &value, sizeof value) == 0);
}

long send_to(struct socket* s, const std::string& text, endpoint to) {
  return socket_send(s, text.data(), text.size(), 0, &to);
}

std::string text_of(struct socket* s, endpoint* from = nullptr, size_t most = 2000, int flags = 0) {
  char buffer[2000];
  long did = socket_receive(s, buffer, most, flags, from);
  if (did < 0) return "error " + std::to_string(-did);
  return std::string(buffer, std::min<size_t>(static_cast<size_t>(did), most));
}

void pass(NetWorld& world, uint64_t ns) {
  uint64_t end = world_now + ns;
  world.run([&] { return world_now >= end; }, ns);
}

// A connection from a to b, both ends in hand.
struct Pair {
  explicit Pair(NetWorld& the_world, uint16_t port = 7) : world(the_world) {
    listener = bound(world.b, SOCK_STREAM, port);
    CHECK(socket_listen(listener, 4) == 0);
    a = opened(world.a, AF_INET, SOCK_STREAM);
    CHECK(socket_connect(a, {kB, port}) == -EINPROGRESS);
    CHECK(world.run([&] {
      world.b.enter();
      return socket_accept(listener, &b) == 0;
    }));
    world.a.enter();
  }
  NetWorld& world;
  struct socket *listener = nullptr, *a = nullptr, *b = nullptr;
};

uint16_t checksum_of(const uint8_t* p, size_t n) {
  uint32_t s = 0;
  for (size_t i = 0; i < n; i++) s += i % 2 ? p[i] : p[i] << 8;
  while (s >> 16) s = (s & 0xffff) + (s >> 16);
  return static_cast<uint16_t>(~s);
}

Frame echo_request(size_t data_bytes, bool broken) {
  Frame f(14 + 20 + 8 + data_bytes);
  const uint8_t head[34] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0,  0, 1, 8, 0,  0x45, 0, 0,
                            0, 0, 0, 0, 0, 9, 1, 0, 0, 10, 0, 0, 1, 10, 0,    0, 2};
  memcpy(f.data(), head, sizeof head);
  f[16] = static_cast<uint8_t>((f.size() - 14) >> 8), f[17] = static_cast<uint8_t>(f.size() - 14);
  uint16_t sum = checksum_of(&f[14], 20);
  f[24] = sum >> 8, f[25] = sum & 0xff;
  f[34] = 8, f[38] = 0x12, f[39] = 0x34, f[41] = 1;
  for (size_t i = 42; i < f.size(); i++) f[i] = static_cast<uint8_t>(i);
  sum = checksum_of(&f[34], f.size() - 34) ^ (broken ? 1 : 0);
  f[36] = sum >> 8, f[37] = sum & 0xff;
  return f;
}

}  // namespace

TEST(net_socket_answers_echoes) {
  NetWorld world(1);
  pass(world, 1'000'000'000);  // the gratuitous ARP passes
  std::vector<Frame> seen;
  world.b.transmit = [&](Frame f) { seen.push_back(std::move(f)); };
  world.b.enter();
  auto give = [&](const Frame& f) {
    net_input(f.data(), f.size());
    net_flush();
  };
  for (size_t bytes : {size_t{0}, size_t{56}, size_t{1472}}) {
    seen.clear();
    Frame request = echo_request(bytes, false);
    // The answer waits for the asker's address: it is in this ARP request.
    const uint8_t arp[42] = {2, 0, 0, 0, 0, 2, 2, 0,  0, 0, 0, 1, 8, 6, 0, 1, 8, 0,  6, 4, 0,
                             2, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 2, 0, 0, 0, 0, 2, 10, 0, 0, 2};
    give(Frame(arp, arp + 42));
    give(request);
    CHECK(seen.size() == 1 && seen[0].size() == request.size());
    const Frame& reply = seen[0];
    CHECK(reply[34] == 0 && reply[35] == 0);
    CHECK(checksum_of(&reply[14], 20) == 0 && checksum_of(&reply[34], reply.size() - 34) == 0);
    CHECK(memcmp(&reply[26], &request[30], 4) == 0 && memcmp(&reply[30], &request[26], 4) == 0);
    CHECK(memcmp(&reply[38], &request[38], request.size() - 38) == 0);
  }
  seen.clear();
  give(echo_request(56, true));
  CHECK(seen.empty());
}

TEST(net_socket_carries_datagrams) {
  NetWorld world(2);
  struct socket* server = bound(world.b, SOCK_DGRAM, 53);
  struct socket* client = opened(world.a, AF_INET, SOCK_DGRAM);
  CHECK(socket_send(client, "x", 1, 0, nullptr) == -EDESTADDRREQ);
  CHECK(send_to(client, "one", {kB, 53}) == 3);
  pass(world, 100'000'000);
  CHECK(send_to(client, "second", {kB, 53}) == 6 && send_to(client, "", {kB, 53}) == 0);
  pass(world, 100'000'000);
  world.b.enter();
  endpoint from{}, name{};
  CHECK((socket_poll(server) & POLLIN) && socket_unread(server) == 3);
  CHECK(text_of(server, &from, 2000, MSG_PEEK) == "one");
  CHECK(text_of(server, &from) == "one" && from.ip == kA);
  char two[2];
  CHECK(socket_receive(server, two, 2, 0, nullptr) == 6 && two[0] == 's' && two[1] == 'e');  // cut, not split
  CHECK(text_of(server).empty() && !(socket_poll(server) & POLLIN));
  CHECK(text_of(server) == "error " + std::to_string(EAGAIN));
  CHECK(send_to(server, "answer", from) == 6);
  pass(world, 100'000'000);
  world.a.enter();
  CHECK(socket_name(client, &name) == 0 && name.portno == from.portno);
  CHECK(text_of(client, &from) == "answer" && from.ip == kB && from.portno == 53);
  CHECK(send_to(client, std::string(1473, 'x'), {kB, 53}) == -EMSGSIZE);
  CHECK(send_to(client, "x", {0x0a0000ff, 53}) == -EACCES);
  set(client, SOL_SOCKET, SO_BROADCAST, 1);
  CHECK(send_to(client, "all", {0x0a0000ff, 53}) == 3);
  pass(world, 100'000'000);
  world.b.enter();
  CHECK(text_of(server) == "all");
}

TEST(net_socket_connected_datagrams_hear_their_peer_only_and_refusals) {
  NetWorld world(3);
  struct socket *server = bound(world.b, SOCK_DGRAM, 53), *other = bound(world.b, SOCK_DGRAM, 54);
  struct socket* client = opened(world.a, AF_INET, SOCK_DGRAM);
  endpoint name{}, peer{};
  CHECK(socket_peer(client, &peer) == -ENOTCONN);
  CHECK(socket_connect(client, {kB, 53}) == 0);
  CHECK(socket_name(client, &name) == 0 && name.ip == kA && name.portno != 0);
  CHECK(socket_peer(client, &peer) == 0 && peer.ip == kB && peer.portno == 53);
  world.b.enter();
  CHECK(send_to(other, "stranger", name) == 8);
  pass(world, 100'000'000);
  CHECK((world.b.enter(), send_to(server, "friend", name)) == 6);
  pass(world, 100'000'000);
  world.a.enter();
  CHECK(text_of(client) == "friend" && text_of(client) == "error " + std::to_string(EAGAIN));
  // Nobody at the port: the refusal is told once, by whichever call comes first.
  CHECK(socket_connect(client, {kB, 99}) == 0);
  for (bool by_option : {false, true}) {
    world.a.enter();
    CHECK(socket_send(client, "anyone?", 7, 0, nullptr) == 7);
    pass(world, 100'000'000);
    world.a.enter();
    CHECK(socket_poll(client) & POLLERR);
    if (by_option)
      CHECK(option(client, SOL_SOCKET, SO_ERROR) == ECONNREFUSED);
    else
      CHECK(text_of(client) == "error " + std::to_string(ECONNREFUSED));
    CHECK(!(socket_poll(client) & POLLERR) && option(client, SOL_SOCKET, SO_ERROR) == 0);
  }
}

TEST(net_socket_datagrams_wait_within_the_receive_buffer) {
  NetWorld world(4);
  struct socket* server = bound(world.b, SOCK_DGRAM, 53);
  set(server, SOL_SOCKET, SO_RCVBUF, 5000);
  struct socket* client = opened(world.a, AF_INET, SOCK_DGRAM);
  for (int i = 0; i < 30; i++) {
    world.a.enter();
    CHECK(send_to(client, std::string(1000, static_cast<char>('a' + i)), {kB, 53}) == 1000);
    pass(world, 10'000'000);
  }
  world.b.enter();
  int there = 0;
  while (text_of(server).size() == 1000) there++;
  CHECK(there >= 5 && there < 10);
}

TEST(net_socket_datagrams_are_long_over_the_loopback) {
  NetStack stack("alone", net_config_of(0, 1));
  stack.enter();
  int64_t before = world_pages;
  struct socket *server = bound(stack, SOCK_DGRAM, 53), *client = opened(stack, AF_INET, SOCK_DGRAM);
  const endpoint there{0x7f000001, 53};
  std::string text(65507, 'x'), got(70000, 0);
  for (size_t i = 0; i < text.size(); i++) text[i] = static_cast<char>(i * 7);
  for (size_t bytes : {3072u, 3073u, 3940u, 3941u, 65507u}) {
    CHECK(send_to(client, text.substr(0, bytes), there) == static_cast<long>(bytes));
    endpoint from{};
    CHECK(socket_receive(server, got.data(), got.size(), 0, &from) == static_cast<long>(bytes));
    CHECK(from.ip == 0x7f000001 && got.compare(0, bytes, text, 0, bytes) == 0);
  }
  CHECK(send_to(client, text + "x", there) == -EMSGSIZE);
  CHECK(send_to(client, text, there) == 65507);  // not read: freed with its socket
  socket_close(server);
  CHECK(socket_connect(client, there) == 0 && send_to(client, text, there) == 65507);
  CHECK(send_to(client, text, there) == -ECONNREFUSED);
  socket_close(client);
  CHECK(world_pages == before);
}

TEST(net_socket_unix_streams_carry_and_end) {
  NetStack stack("alone", net_config_of(0, 1));
  struct socket* listener = opened(stack, AF_UNIX, SOCK_STREAM);
  const unix_name name{nullptr, 5, {0, 'd', 'o', 'o', 'r'}};
  struct socket *client = opened(stack, AF_UNIX, SOCK_STREAM), *server = nullptr;
  CHECK(unix_connect(client, &name) == -ECONNREFUSED);
  CHECK(unix_bind(listener, &name) == 0);
  CHECK(unix_connect(client, &name) == -ECONNREFUSED);  // bound, but not listening
  struct socket* second = opened(stack, AF_UNIX, SOCK_STREAM);
  CHECK(unix_bind(second, &name) == -EADDRINUSE);
  CHECK(socket_listen(listener, 0) == 0 && socket_accept(listener, &server) == -EAGAIN);
  CHECK(socket_send(client, "x", 1, 0, nullptr) == -ENOTCONN);
  CHECK(unix_connect(client, &name) == 0 && unix_connect(client, &name) == -EISCONN);
  CHECK(unix_connect(second, &name) == -EAGAIN);  // the backlog is full
  CHECK(socket_send(client, "early", 5, 0, nullptr) == 5);
  CHECK((socket_poll(listener) & POLLIN) && socket_accept(listener, &server) == 0);
  CHECK(socket_unread(server) == 5 && text_of(server, nullptr, 2) == "ea" && text_of(server) == "rly");
  CHECK(text_of(server) == "error " + std::to_string(EAGAIN));
  unix_name peer{};
  unix_name_of(client, true, &peer);
  CHECK(peer.length == 5 && memcmp(peer.bytes, name.bytes, 5) == 0);
  CHECK(socket_shutdown(client, 1) == 0 && socket_send(client, "x", 1, 0, nullptr) == -EPIPE);
  CHECK((socket_poll(server) & (POLLIN | POLLRDHUP | POLLHUP)) == (POLLIN | POLLRDHUP));
  CHECK(text_of(server).empty() && socket_send(server, "still", 5, 0, nullptr) == 5);
  CHECK(text_of(client) == "still");
  socket_close(server);
  CHECK((socket_poll(client) & POLLHUP) && text_of(client).empty());
  for (struct socket* s : {client, second, listener}) socket_close(s);
  struct socket* third = opened(stack, AF_UNIX, SOCK_STREAM);
  CHECK(unix_bind(third, &name) == 0);  // the name is free again
  socket_close(third);
}

TEST(net_socket_unix_pairs_are_bounded_and_reset) {
  NetStack stack("alone", net_config_of(0, 1));
  stack.enter();
  int64_t before = world_pages;
  struct socket* pair[2];
  CHECK(unix_pair(SOCK_STREAM, pair) == 0);
  const std::string much(100000, 'u');
  long held = 0, did;
  while ((did = socket_send(pair[0], much.data(), much.size(), 0, nullptr)) > 0) held += did;
  CHECK(did == -EAGAIN && held == 212992 && socket_unread(pair[1]) == held);
  CHECK(!(socket_poll(pair[0]) & POLLOUT) && (socket_poll(pair[1]) & POLLOUT));
  while (socket_unread(pair[1]) > 50000) text_of(pair[1]);
  CHECK(socket_poll(pair[0]) & POLLOUT);
  socket_close(pair[1]);  // with bytes unread
  CHECK(socket_poll(pair[0]) & POLLERR);
  CHECK(text_of(pair[0]) == "error " + std::to_string(ECONNRESET) && text_of(pair[0]).empty());
  socket_close(pair[0]);
  CHECK(world_pages == before);
}

TEST(net_socket_options_are_kept_and_checked) {
  NetStack stack("alone", net_config_of(0, 1));
  struct socket *s = opened(stack, AF_INET, SOCK_STREAM), *u = opened(stack, AF_UNIX, SOCK_STREAM);
  for (int name : {SO_REUSEADDR, SO_REUSEPORT, SO_KEEPALIVE}) {
    CHECK(option(s, SOL_SOCKET, name) == 0);
    set(s, SOL_SOCKET, name, 7);
    CHECK(option(s, SOL_SOCKET, name) == 1);
  }
  for (int name : {TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT}) {
    set(s, IPPROTO_TCP, name, 11);
    CHECK(option(s, IPPROTO_TCP, name) == 11);
    for (int bad : {0, -1, 40000})
      CHECK(socket_set_option(s, IPPROTO_TCP, name, &bad, sizeof bad) == -EINVAL);
    CHECK(option(s, IPPROTO_TCP, name) == 11);
  }
  for (int name : {SO_SNDBUF, SO_RCVBUF}) {  // doubled, within bounds, as Linux does
    set(s, SOL_SOCKET, name, 30000);
    CHECK(option(s, SOL_SOCKET, name) == 60000);
    set(s, SOL_SOCKET, name, 1);
    CHECK(option(s, SOL_SOCKET, name) == 4608);
    set(s, SOL_SOCKET, name, INT32_MAX);
    CHECK(option(s, SOL_SOCKET, name) == 8 << 20);
  }
  const linger wanted{1, 5};
  linger got{};
  size_t size = sizeof got;
  CHECK(socket_set_option(s, SOL_SOCKET, SO_LINGER, &wanted, 4) == -EINVAL);
  CHECK(socket_set_option(s, SOL_SOCKET, SO_LINGER, &wanted, sizeof wanted) == 0);
  CHECK(socket_get_option(s, SOL_SOCKET, SO_LINGER, &got, &size) == 0 && got.l_onoff == 1 &&
        got.l_linger == 5);
  int one = 1;
  CHECK(socket_set_option(s, SOL_SOCKET, SO_KEEPALIVE, &one, 2) == -EINVAL);
  char used[16] = {};
  CHECK(socket_get_option(s, IPPROTO_TCP, TCP_CONGESTION, used, &(size = sizeof used)) == 0 &&
        !strcmp(used, "bbr"));
  CHECK(socket_set_option(s, IPPROTO_TCP, TCP_CONGESTION, "vegas", 5) == -ENOENT);
  CHECK(socket_set_option(s, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5) == 0);
  CHECK(socket_get_option(s, IPPROTO_TCP, TCP_CONGESTION, used, &(size = sizeof used)) == 0 &&
        !strcmp(used, "cubic"));
  CHECK(socket_set_option(s, SOL_SOCKET, 9999, &one, sizeof one) == -ENOPROTOOPT);
  CHECK(socket_set_option(u, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == -ENOPROTOOPT);
  CHECK(option(s, SOL_SOCKET, SO_TYPE) == SOCK_STREAM && option(s, SOL_SOCKET, SO_ACCEPTCONN) == 0);
  CHECK(socket_listen(s, 1) == 0 && option(s, SOL_SOCKET, SO_ACCEPTCONN) == 1);
  socket_close(s), socket_close(u);
}

TEST(net_socket_reuse_of_addresses) {
  NetStack stack("alone", net_config_of(kA, 1));
  struct socket* s[4];
  for (auto& each : s) each = opened(stack, AF_INET, SOCK_STREAM);
  CHECK(socket_bind(s[0], {0, 80}) == 0 && socket_bind(s[0], {0, 81}) == -EINVAL);
  CHECK(socket_bind(s[1], {0, 80}) == -EADDRINUSE);
  set(s[1], SOL_SOCKET, SO_REUSEADDR, 1);
  CHECK(socket_bind(s[1], {0, 80}) == -EADDRINUSE);  // both must want it
  set(s[0], SOL_SOCKET, SO_REUSEADDR, 1);
  CHECK(socket_bind(s[1], {0, 80}) == 0);
  CHECK(socket_listen(s[0], 1) == 0);
  set(s[2], SOL_SOCKET, SO_REUSEADDR, 1);
  CHECK(socket_bind(s[2], {0, 80}) == -EADDRINUSE);  // not beside one that listens
  CHECK(socket_bind(s[3], {0x0a000063, 82}) == -EADDRNOTAVAIL);
  for (auto& each : s) socket_close(each);
}

TEST(net_socket_nagle_holds_small_writes_unless_told) {
  for (int no_delay : {0, 1}) {
    NetWorld world(5);
    Pair pair(world);
    set(pair.a, IPPROTO_TCP, TCP_NODELAY, no_delay);
    CHECK(option(pair.a, IPPROTO_TCP, TCP_NODELAY) == no_delay);
    uint64_t frames = world.frames;
    for (int i = 0; i < 5; i++) CHECK(socket_send(pair.a, "abc", 3, 0, nullptr) == 3);
    CHECK(world.frames - frames == (no_delay ? 5 : 1));
    pass(world, 1'000'000'000);
    world.b.enter();
    CHECK(socket_unread(pair.b) == 15);
  }
}

TEST(net_socket_errors_are_told_once) {
  NetWorld world(6);
  struct socket* s = opened(world.a, AF_INET, SOCK_STREAM);
  CHECK(socket_connect(s, {kB, 9}) == -EINPROGRESS && option(s, SOL_SOCKET, SO_ERROR) == 0);
  pass(world, 100'000'000);
  world.a.enter();
  CHECK(option(s, SOL_SOCKET, SO_ERROR) == ECONNREFUSED && option(s, SOL_SOCKET, SO_ERROR) == 0);
}

TEST(net_socket_keepalive_finds_the_dead_and_spares_the_living) {
  for (bool dead : {false, true}) {
    NetWorld world(7);
    Pair pair(world);
    set(pair.a, SOL_SOCKET, SO_KEEPALIVE, 1);
    set(pair.a, IPPROTO_TCP, TCP_KEEPIDLE, 10);
    set(pair.a, IPPROTO_TCP, TCP_KEEPINTVL, 2);
    set(pair.a, IPPROTO_TCP, TCP_KEEPCNT, 3);
    uint64_t start = world_now, frames = world.frames;
    if (dead) world.options.loss = 1;
    bool ended = world.run(
        [&] {
          world.a.enter();
          return (socket_poll(pair.a) & POLLERR) != 0;
        },
        100'000'000'000);
    CHECK(ended == dead);
    world.a.enter();
    CHECK(option(pair.a, SOL_SOCKET, SO_ERROR) == (dead ? ETIMEDOUT : 0));
    uint64_t seconds = (world_now - start) / 1'000'000'000;
    if (dead) CHECK(seconds >= 15 && seconds <= 17);  // 10 idle, 3 probes 2 apart
    if (!dead) CHECK(world.frames - frames >= 16 && world.frames - frames <= 24);  // a probe, an answer
  }
}

TEST(net_socket_linger_of_zero_resets) {
  for (int on : {0, 1}) {
    NetWorld world(8);
    Pair pair(world);
    const linger wanted{on, 0};
    CHECK(socket_set_option(pair.a, SOL_SOCKET, SO_LINGER, &wanted, sizeof wanted) == 0);
    socket_close(pair.a);
    pass(world, 100'000'000);
    world.b.enter();
    CHECK(text_of(pair.b) == (on ? "error " + std::to_string(ECONNRESET) : ""));
  }
}
