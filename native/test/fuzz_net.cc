// Anything at all from the network, in pieces with a length before each. The first byte says as what:
// 0, a DHCP server's options, to a client that asks for an address; 1, segments of a connection that is open
// and has much to send, with true checksums and numbers near what is expected; else whole frames, whose
// checksums are not mended, to a stack that listens, has a connection open and a datagram socket bound.
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "test/net_world.h"

using namespace lockstep::test;

namespace {

struct Piece {
  const uint8_t* data;
  size_t bytes;
  uint8_t pause;  // up to 31
};

// Takes one piece off: 11 bits of length, 5 of pause.
bool take(const uint8_t*& data, size_t& size, Piece& piece) {
  if (size <= 2) return false;
  piece = {data + 2, std::min<size_t>(data[0] | (data[1] & 7) << 8, size - 2), uint8_t(data[1] >> 3)};
  data += 2 + piece.bytes, size -= 2 + piece.bytes;
  return true;
}

void give(const Frame& frame) {
  net_input(frame.data(), frame.size());
  net_flush();
}

void wait(uint64_t ns) {
  world_now += ns;
  net_timers();
}

// All that is left ends by itself; only then may the stack's memory go.
void run_out() {
  for (int i = 0; i < 10000 && net_timer_due() != ~0ull; i++)
    wait(std::max(world_now, net_timer_due()) - world_now);
}

Frame packet(const char* addresses, uint8_t protocol, size_t payload_bytes) {
  Frame frame(34 + payload_bytes);
  memset(&frame[0], 255, 6);
  frame[12] = 8, frame[14] = 0x45, frame[22] = 64, frame[23] = protocol;
  memcpy(&frame[26], addresses, 8);
  return frame;
}

void answer_dhcp(const uint8_t* data, size_t size) {
  NetStack stack("leased", net_config_of(0, 2));
  uint32_t transaction = 0;
  stack.transmit = [&](const Frame& f) {
    if (f.size() > 50) memcpy(&transaction, &f[46], 4);
  };
  net_dhcp_start();
  for (Piece piece; take(data, size, piece);) {
    Frame f = packet("\x0a\x09\x00\x01\xff\xff\xff\xff", 17, 248 + piece.bytes);
    f[35] = 67, f[37] = 68;
    f[42] = 2, f[43] = 1, f[44] = 6;
    memcpy(&f[46], &transaction, 4);
    memcpy(&f[58], "\x0a\x09\x00\x32", 4);
    memcpy(&f[70], "\2\0\0\0\0\2", 6);
    memcpy(&f[278], "\x63\x82\x53\x63", 4);
    if (piece.bytes) memcpy(&f[282], piece.data, piece.bytes);
    mend(f);
    give(f);
    wait(1'000'000ull << piece.pause);
  }
  // It asks for ever; what waits for the server's hardware address is given up in between.
  for (int i = 0; i < 100 && net_timer_due() < world_now + 5'000'000'000; i++)
    wait(std::max(world_now, net_timer_due()) - world_now);
}

void add32(uint8_t* to, uint32_t v) {
  for (int i = 0; i < 4; i++) to[i] = static_cast<uint8_t>(v >> (24 - 8 * i));
}
uint32_t get32(const uint8_t* p) { return uint32_t(p[0]) << 24 | p[1] << 16 | p[2] << 8 | p[3]; }

// A piece: flags, number and acknowledgement relative to what is expected, window, length of the options
// (a SACK option's numbers are relative, too), then options and data.
void talk_tcp(const uint8_t* data, size_t size) {
  NetStack stack("spoken to", net_config_of(0x0a000002, 2));
  uint32_t next = 0;  // after the highest that the stack sent
  stack.transmit = [&](const Frame& f) {
    if (f.size() < 54 || f[23] != 6) return;
    const uint32_t end =
        get32(&f[38]) + static_cast<uint32_t>(f.size() - 34 - (f[46] >> 4) * 4u) + (f[47] & 3 ? 1 : 0);
    if (!next || static_cast<int32_t>(end - next) > 0) next = end;
  };
  Frame arp(42);
  memcpy(&arp[0],
         "\2\0\0\0\0\2\2\0\0\0\0\1\x08\x06\0\1\x08\0\6\4\0\1\2\0\0\0\0\1\x0a\0\0\1\0\0\0\0\0\0\x0a\0\0\2",
         42);
  give(arp);
  struct socket *listener = nullptr, *s = nullptr;
  socket_open(AF_INET, SOCK_STREAM, 0, &listener);
  socket_bind(listener, {0, 7});
  socket_listen(listener, 16);
  auto segment = [&](uint8_t flags, uint32_t number, uint32_t ack, uint16_t window, const uint8_t* options,
                     size_t option_bytes, const uint8_t* payload, size_t payload_bytes) {
    const size_t padded = (option_bytes + 3) / 4 * 4;
    Frame f = packet("\x0a\x00\x00\x01\x0a\x00\x00\x02", 6, 20 + padded + payload_bytes);
    memcpy(&f[0], "\2\0\0\0\0\2", 6);
    f[34] = 20, f[37] = 7;
    add32(&f[38], number), add32(&f[42], ack);
    f[46] = static_cast<uint8_t>((20 + padded) / 4 << 4), f[47] = flags;
    f[48] = static_cast<uint8_t>(window >> 8), f[49] = static_cast<uint8_t>(window);
    if (option_bytes) memcpy(&f[54], options, option_bytes);
    if (payload_bytes) memcpy(&f[54 + padded], payload, payload_bytes);
    mend(f);
    give(f);
  };
  const bool stamps = size && data[0] & 1;
  const uint8_t options[] = {2, 4, 5, 0xb4, 1, 3, 3, 7, 1, 1, 4, 2, 1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0};
  segment(2, 1000, 0, 65535, options, stamps ? 24 : 12, nullptr, 0);
  segment(16, 1001, next, 65535, nullptr, 0, nullptr, 0);
  socket_accept(listener, &s);
  static uint8_t buffer[65536];
  const uint32_t una = next;
  for (Piece piece; take(data, size, piece);) {
    if (s) socket_send(s, buffer, sizeof buffer, 0, nullptr);
    uint8_t head[8] = {};
    memcpy(head, piece.data, std::min<size_t>(piece.bytes, 8));
    const uint8_t* rest = piece.data + std::min<size_t>(piece.bytes, 8);
    size_t left = piece.bytes - std::min<size_t>(piece.bytes, 8),
           option_bytes = std::min<size_t>(head[7] % 41, left);
    uint8_t given[40] = {};
    memcpy(given, rest, option_bytes);
    // Blocks as distances from the first byte, so that they hit.
    if (option_bytes >= 12 && given[2] == 5)
      for (size_t at = 4; at + 4 <= option_bytes; at += 4)
        add32(given + at, una + (get32(given + at) & 0x3ffff));
    const auto number = 1001 + static_cast<uint32_t>(static_cast<int16_t>(head[1] << 8 | head[2]));
    const uint32_t ack =
        head[0] & 0x80 ? una + (uint32_t(head[3]) << 8 | head[4]) : next - (head[3] << 4) - head[4];
    segment(head[0] & 0x3f, number, ack, static_cast<uint16_t>(head[5] << 8 | head[6]), given, option_bytes,
            rest + option_bytes, left - option_bytes);
    if (s) socket_receive(s, buffer, sizeof buffer, 0, nullptr);
    wait(1'000ull << piece.pause);
  }
  if (s) socket_close(s);
  socket_close(listener);
  run_out();
}

void give_frames(const uint8_t* data, size_t size) {
  NetStack stack("fuzzed", net_config_of(0x0a000002, 2));
  struct socket *listener = nullptr, *client = nullptr, *datagrams = nullptr, *accepted = nullptr;
  socket_open(AF_INET, SOCK_STREAM, 0, &listener);
  socket_bind(listener, {0, 7});
  socket_listen(listener, 16);
  socket_open(AF_INET, SOCK_STREAM, 0, &client);
  socket_connect(client, {0x0a000001, 7});
  socket_open(AF_INET, SOCK_DGRAM, 0, &datagrams);
  socket_bind(datagrams, {0, 53});
  for (Piece piece; take(data, size, piece);) {
    give(Frame(piece.data, piece.data + piece.bytes));
    wait(piece.pause * 50'000'000ull);
  }
  while (socket_accept(listener, &accepted) == 0) socket_close(accepted);
  for (struct socket* s : {listener, client, datagrams}) socket_close(s);
  run_out();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  world_random.seed(1);
  world_now = 1'000'000'000;
  if (size == 0) return 0;
  (data[0] == 0 ? answer_dhcp : data[0] == 1 ? talk_tcp : give_frames)(data + 1, size - 1);
  return 0;
}
