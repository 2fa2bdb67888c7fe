// Anything at all as frames from the network, in pieces with a length before each, to a stack that listens,
// has a connection open and a datagram socket bound. Checksums are not mended: the stack is built to survive
// both.
#include <sys/socket.h>

#include <cstring>

#include "test/net_world.h"

using namespace lockstep::test;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  world_random.seed(1);
  world_now = 1'000'000'000;
  NetStack stack("fuzzed", net_config_of(0x0a000002, 2));
  struct socket *listener = nullptr, *client = nullptr, *datagrams = nullptr, *accepted = nullptr;
  socket_open(AF_INET, SOCK_STREAM, 0, &listener);
  socket_bind(listener, {0, 7});
  socket_listen(listener, 16);
  socket_open(AF_INET, SOCK_STREAM, 0, &client);
  socket_connect(client, {0x0a000001, 7});
  socket_open(AF_INET, SOCK_DGRAM, 0, &datagrams);
  socket_bind(datagrams, {0, 53});
  while (size > 2) {
    size_t length = std::min<size_t>(data[0] | (data[1] & 7) << 8, size - 2);
    net_input(data + 2, length);
    net_flush();
    world_now += (data[1] >> 3) * 50'000'000ull;
    net_timers();
    data += 2 + length, size -= 2 + length;
  }
  while (socket_accept(listener, &accepted) == 0) socket_close(accepted);
  for (struct socket* s : {listener, client, datagrams}) socket_close(s);
  // All that is left ends by itself; only then may the stack's memory go.
  for (int i = 0; i < 10000 && net_timer_due() != ~0ull; i++) {
    world_now = std::max(world_now, net_timer_due());
    net_timers();
  }
  return 0;
}
