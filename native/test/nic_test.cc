// The host's side of a network card against the host's own network stack: a TAP interface in a network
// namespace of this test's own.
#include "net/nic.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <thread>

#include "kvm/system.h"
#include "log/event.h"
#include "net/heard_frames.h"
#include "test/check.h"

using namespace lockstep;
using namespace lockstep::test;

namespace {

NetOptions options() {
  NetOptions net;
  net.ip = inet_addr("10.77.0.15");
  net.netmask = inet_addr("255.255.255.0");
  net.gateway = inet_addr("10.77.0.2");
  net.mtu = 1400;
  return net;
}

sockaddr_in address(uint32_t ip, uint16_t port) {
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_addr.s_addr = ip;
  a.sin_port = htons(port);
  return a;
}

// The next frame of this type; other ones (the host announces itself) are passed over.
std::unique_ptr<Nic> tap(const std::string& name) {
  NicConfig config;
  config.name = name;
  return open_tap(config, options());
}

Bytes next_of_type(Nic& nic, uint16_t type) {
  Bytes frame(2048);
  for (pollfd ready{nic.fd(), POLLIN, 0}; poll(&ready, 1, 10'000) == 1;) {
    const size_t got = nic.receive(frame);
    if (got < 14 || (frame[12] << 8 | frame[13]) != type) continue;
    frame.resize(got);
    return frame;
  }
  return {};
}

// The host asks who has the machine's address, is told, and its datagram arrives; one goes back.
void talk() {
  auto nic = tap("lstest0");
  CHECK(nic->name() == "lstest0");
  Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const sockaddr_in machine = address(options().ip, 7), host = address(options().gateway, 9);
  CHECK(bind(socket.get(), reinterpret_cast<const sockaddr*>(&host), sizeof host) == 0);
  CHECK(sendto(socket.get(), "hello", 5, 0, reinterpret_cast<const sockaddr*>(&machine), sizeof machine) ==
        5);
  Bytes question = next_of_type(*nic, 0x0806);
  const uint32_t asked = options().ip;
  CHECK(question.size() >= 42 && std::memcmp(&question[38], &asked, 4) == 0);

  const uint8_t mac[6] = {2, 0, 0, 0, 0, 7};
  Bytes answer(question.begin(), question.begin() + 42);
  std::memcpy(&answer[0], &question[6], 6);
  std::memcpy(&answer[6], mac, 6);
  answer[21] = 2;
  std::memcpy(&answer[22], mac, 6);
  std::memcpy(&answer[28], &question[38], 4);
  std::memcpy(&answer[32], &question[22], 6);
  std::memcpy(&answer[38], &question[28], 4);
  CHECK(nic->send(answer));
  Bytes datagram = next_of_type(*nic, 0x0800);
  CHECK(datagram.size() == 14 + 20 + 8 + 5 && std::memcmp(&datagram[42], "hello", 5) == 0);

  // Back where it came from: addresses and ports exchanged, sums as they were, without one for UDP.
  std::swap_ranges(datagram.begin(), datagram.begin() + 6, datagram.begin() + 6);
  std::swap_ranges(&datagram[26], &datagram[30], &datagram[30]);
  std::swap_ranges(&datagram[34], &datagram[36], &datagram[36]);
  datagram[40] = datagram[41] = 0;
  CHECK(nic->send(datagram));
  pollfd ready{socket.get(), POLLIN, 0};
  CHECK(poll(&ready, 1, 10'000) == 1);
  char text[16];
  CHECK(recv(socket.get(), text, sizeof text, 0) == 5);

  CHECK(failure_code([] { tap("lstest0"); }) == "ERR_LOCKSTEP_NET_BUSY");
  CHECK(failure_code([] { tap("lo"); }) == "ERR_LOCKSTEP_NET");
  nic.reset();
  CHECK(if_nametoindex("lstest0") == 0);
  CHECK(!tap("")->name().empty());
}

std::string bridge_address() {
  std::array<char, 100> text{};
  FILE* pipe = popen("ip -brief link show dev lsbridge", "r");
  CHECK(pipe && fgets(text.data(), text.size(), pipe));
  pclose(pipe);
  return text.data();
}

Bytes wait_for_type(Nic& nic, uint16_t type) {
  pollfd ready{nic.fd(), POLLIN, 0};
  poll(&ready, 1, 10'000);
  return next_of_type(nic, type);
}

// Two sides of a pair on one bridge, which has learned the machine's address behind another port.
void hear_each_other() {
  CHECK(std::system("ip link add lsbridge type bridge && ip address add 10.77.0.2/24 dev lsbridge && "
                    "ip link set lsbridge up") == 0);
  NicConfig config;
  config.bridge = "lsbridge";
  config.flooded = true;
  auto primary = open_tap(config, options()), shadow = open_tap(config, options());
  CHECK(std::system("ip link add lsother type veth peer name lsaway && ip link set lsaway up && "
                    "ip link set lsother master lsbridge up && "
                    "bridge fdb replace 52:00:00:00:00:01 dev lsother master dynamic && "
                    "ip neighbour replace 10.77.0.15 lladdr 52:00:00:00:00:01 dev lsbridge") == 0);
  const std::string before = bridge_address();
  NetOptions net = options();
  net.mac = {0x52, 0, 0, 0, 0, 1};
  announce(primary.get(), net);

  Fd socket(::socket(AF_INET, SOCK_DGRAM, 0));
  const sockaddr_in machine = address(options().ip, 7);
  CHECK(sendto(socket.get(), "hello", 5, 0, reinterpret_cast<const sockaddr*>(&machine), sizeof machine) ==
        5);
  const Bytes datagram = wait_for_type(*primary, 0x0800);
  CHECK(!datagram.empty() && wait_for_type(*shadow, 0x0800) == datagram);
  primary.reset();
  CHECK(bridge_address() == before);
}

// What `work` does, in a network namespace of its own; `denied` where this user may make none.
void in_own_network(const std::function<void()>& work, const std::function<void()>& denied) {
  std::string why;
  bool failed = false;
  std::thread thread([&] {
    try {
      unshare(CLONE_NEWNET) == 0 ? work() : denied();
    } catch (const std::exception& error) {
      why = error.what();
      failed = true;
    }
  });
  thread.join();
  if (failed) printf("# %s\n", why.c_str());
  CHECK(!failed);
}

// Has no other end: what it receives is said by the test.
class FakeNic : public Nic {
 public:
  std::deque<Bytes> waiting;
  int fd() const override { return -1; }
  size_t receive(std::span<uint8_t> into) override {
    if (waiting.empty()) return 0;
    const Bytes frame = std::move(waiting.front());
    waiting.pop_front();
    std::copy(frame.begin(), frame.end(), into.begin());
    return frame.size();
  }
  bool send(std::span<const uint8_t>) override { return true; }
  std::string name() const override { return "fake"; }
};

}  // namespace

TEST(a_tap_interface_is_made_used_and_removed) {
  // Who may not, may not make an interface either.
  in_own_network(talk, [] { CHECK(failure_code([] { tap(""); }) != ""); });
}

TEST(both_sides_hear_what_is_sent_to_the_machine_and_the_bridge_keeps_its_address) {
  in_own_network(hear_each_other, [] {});
}

TEST(what_a_shadow_heard_is_kept_until_the_log_has_it) {
  constexpr std::array<uint8_t, 6> kMachine = {0x52, 1, 2, 3, 4, 5};
  FakeNic nic;
  HeardFrames heard;
  const auto frame = [](uint8_t n) { return Bytes(60, n); };
  nic.waiting = {frame(1), frame(2), frame(3), frame(4), frame(3)};
  CHECK(!heard.hear(nic, kMachine));
  heard.logged(frame(9));  // that one was not heard here
  heard.logged(frame(2));  // and so the first was lost on the primary's way
  heard.logged(frame(3));
  CHECK(heard.take() == (std::deque<Bytes>{frame(4), frame(3)}));
  CHECK(heard.take().empty());

  // What the machine itself says is nothing to tell it, but shows that a bridge learned where it is.
  Bytes own(60, 0xff);
  std::copy(kMachine.begin(), kMachine.end(), own.begin() + 6);
  nic.waiting = {own, frame(5)};
  CHECK(heard.hear(nic, kMachine));
  CHECK(heard.take() == (std::deque<Bytes>{frame(5)}));

  // However long nothing is logged: the last ones, within bounds.
  for (int i = 0; i < 10'000; i++) {
    nic.waiting.push_back(Bytes(1500, static_cast<uint8_t>(i)));
    heard.hear(nic, kMachine);
  }
  const std::deque<Bytes> kept = heard.take();
  CHECK(kept.size() * 1500 <= (4u << 20) && kept.size() * 1500 > (3u << 20));
  CHECK(kept.back() == Bytes(1500, static_cast<uint8_t>(9999)));
}
