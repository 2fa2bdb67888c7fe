// The host's side of a network card against the host's own network stack: a TAP interface in a network
// namespace of this test's own.
#include "net/nic.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "kvm/system.h"
#include "log/event.h"
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
  auto nic = open_tap("lstest0", "", options());
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

  CHECK(failure_code([] { open_tap("lstest0", "", options()); }) == "ERR_LOCKSTEP_NET_BUSY");
  CHECK(failure_code([] { open_tap("lo", "", options()); }) == "ERR_LOCKSTEP_NET");
  nic.reset();
  CHECK(if_nametoindex("lstest0") == 0);
  CHECK(!open_tap("", "", options())->name().empty());
}

}  // namespace

TEST(a_tap_interface_is_made_used_and_removed) {
  std::string why;
  bool failed = false;
  std::thread thread([&] {
    try {
      if (unshare(CLONE_NEWNET) != 0) {
        CHECK(failure_code([] { open_tap("", "", options()); }) != "");  // nor may it make an interface
        return;
      }
      talk();
    } catch (const std::exception& error) {
      why = error.what();
      failed = true;
    }
  });
  thread.join();
  if (failed) printf("# %s\n", why.c_str());
  CHECK(!failed);
}
