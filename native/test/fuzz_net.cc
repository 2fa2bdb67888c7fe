// Anything at all as frames from the network, in pieces with a length before each, to a stack that listens,
// has a connection open and a datagram socket bound. Checksums are not mended: the stack is built to survive
// both. What begins with a zero byte are a DHCP server's options instead, to a client that asks for an
// address.
#include <sys/socket.h>

#include <cstring>

#include "test/net_world.h"

using namespace lockstep::test;

namespace {

// Every piece is the options of an answer that fits the client's question.
void answer_dhcp(const uint8_t* data, size_t size) {
  NetStack stack("leased", net_config_of(0, 2));
  uint32_t transaction = 0;
  stack.transmit = [&](const Frame& f) {
    if (f.size() > 50) memcpy(&transaction, &f[46], 4);
  };
  net_dhcp_start();
  while (size > 2) {
    size_t length = std::min<size_t>(data[0], size - 2);
    Frame f(42 + 240 + length);
    uint8_t *ip = &f[14], *message = &f[42];
    memset(&f[0], 255, 6);
    f[12] = 8, ip[0] = 0x45, ip[8] = 64, ip[9] = 17;
    ip[2] = static_cast<uint8_t>((f.size() - 14) >> 8), ip[3] = static_cast<uint8_t>(f.size() - 14);
    memcpy(ip + 12, "\x0a\x09\x00\x01\xff\xff\xff\xff", 8);
    uint32_t sum = 0;
    for (int i = 0; i < 20; i += 2) sum += static_cast<uint32_t>(ip[i] << 8 | ip[i + 1]);
    sum = ~((sum & 0xffff) + (sum >> 16));
    ip[10] = static_cast<uint8_t>(sum >> 8), ip[11] = static_cast<uint8_t>(sum);
    f[35] = 67, f[37] = 68;
    f[38] = static_cast<uint8_t>((f.size() - 34) >> 8), f[39] = static_cast<uint8_t>(f.size() - 34);
    message[0] = 2, message[1] = 1, message[2] = 6;
    memcpy(message + 4, &transaction, 4);
    memcpy(message + 16, "\x0a\x09\x00\x32", 4);
    memcpy(message + 28, "\2\0\0\0\0\2", 6);
    memcpy(message + 236, "\x63\x82\x53\x63", 4);
    memcpy(message + 240, data + 2, length);
    net_input(f.data(), f.size());
    net_flush();
    world_now += 1'000'000ull << (data[1] & 31);
    net_timers();
    data += 2 + length, size -= 2 + length;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  world_random.seed(1);
  world_now = 1'000'000'000;
  if (size && data[0] == 0) {
    answer_dhcp(data + 1, size - 1);
    return 0;
  }
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
