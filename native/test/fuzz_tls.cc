// A hostile peer of TLS: either anything at all to who accepts, or a true handshake through a relay that
// changes bytes on their way, in both directions. Nobody crashes, nobody waits longer than for the bytes, and
// what is read behind a handshake is what was written, or nothing. Pieces of the input: which byte, and how
// it changes.
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <thread>

#include "error.h"
#include "link/tls.h"
#include "log/event.h"

using namespace lockstep;

namespace {

// Who was told nonsense may wait for more of it; what is true comes, however busy the machine is.
constexpr int kQuietMs = 20, kTrueMs = 5000;

void check(bool held) {
  if (!held) __builtin_trap();
}

const std::shared_ptr<TlsCredentials>& credentials() {
  static const TlsKeys keys = make_tls_keys(10);
  static const auto loaded = load_tls(keys.ca_certificate, keys.side_certificate, keys.side_key);
  return loaded;
}

struct Server {
  Listener listener{"tcp:127.0.0.1:0", {credentials(), false, false}, TlsPeer::kSide};
  int connect() {
    int error = 0;
    auto stream = connect_stream(listener.address(), 1000, &error, {});
    check(stream != nullptr);
    return fcntl(stream->fd(), F_DUPFD_CLOEXEC, 3);
  }
  std::unique_ptr<Stream> take(int ms) {
    pollfd p{listener.fd(), POLLIN, 0};
    return poll(&p, 1, ms) == 1 ? listener.accept() : nullptr;
  }
};

void drain(int fd) {
  uint8_t bytes[4096];
  for (pollfd p{fd, POLLIN, 0}; poll(&p, 1, kQuietMs) == 1;)
    if (recv(fd, bytes, sizeof bytes, MSG_DONTWAIT) <= 0) return;
}

void anything(Server& server, const uint8_t* data, size_t size) {
  const int fd = server.connect();
  (void)!send(fd, data, size, MSG_NOSIGNAL);
  shutdown(fd, SHUT_WR);
  drain(fd);
  close(fd);
  check(server.take(0) == nullptr);
}

struct Change {
  bool to_server;
  uint16_t at;
  uint8_t with;
};

// Relays until neither end has said anything for a while.
void relay(int client, int server, const std::vector<Change>& changes, int quiet_ms) {
  std::array<size_t, 2> passed{};
  pollfd ends[2] = {{client, POLLIN, 0}, {server, POLLIN, 0}};
  while (poll(ends, 2, quiet_ms) > 0) {
    for (int from = 0; from < 2; from++) {
      if (ends[from].revents == 0) continue;
      uint8_t bytes[4096];
      const ssize_t got = recv(ends[from].fd, bytes, sizeof bytes, MSG_DONTWAIT);
      if (got <= 0) return;
      for (const Change& change : changes)
        if (change.to_server == (from == 0) && change.at >= passed[from] &&
            change.at < passed[from] + static_cast<size_t>(got))
          bytes[change.at - passed[from]] ^= change.with;
      passed[from] += static_cast<size_t>(got);
      (void)!send(ends[1 - from].fd, bytes, static_cast<size_t>(got), MSG_NOSIGNAL);
    }
  }
}

void on_its_way(Server& server, const uint8_t* data, size_t size) {
  std::vector<Change> changes;
  for (; size >= 3; data += 3, size -= 3)
    if (data[2] != 0)
      changes.push_back(
          {(data[0] & 0x80) != 0, static_cast<uint16_t>((data[0] & 0xf) << 8 | data[1]), data[2]});
  const int quiet_ms = changes.empty() ? kTrueMs : kQuietMs;
  int ends[2];
  check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
  const int far = server.connect();
  std::thread between([&] {
    relay(ends[1], far, changes, quiet_ms);
    close(ends[1]);
    close(far);
  });
  static const Bytes kSaid(100, 'x');
  std::unique_ptr<Stream> near;
  try {
    int error = 0;
    near = connect_tls(ends[0], credentials(), TlsPeer::kSide, kTrueMs, &error);
    if (near) (void)near->write(kSaid);
  } catch (const Failure& failure) {
    check(failure.code == "ERR_LOCKSTEP_TLS");
  }
  const auto stream = server.take(near ? quiet_ms : 0);
  ssize_t got = -1;
  uint8_t heard[32768];
  for (pollfd p{stream ? stream->fd() : -1, POLLIN, 0}; stream && got < 0 && poll(&p, 1, quiet_ms) == 1;)
    if ((got = stream->read(heard)) < 0 && errno != EAGAIN) break;
  if (got > 0)
    check(static_cast<size_t>(got) <= kSaid.size() && std::equal(heard, heard + got, kSaid.begin()));
  check(got > 0 || !changes.empty());
  near.reset();
  between.join();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  Server server;  // of this run alone: what an earlier one began may end late
  (data[0] % 4 == 0 ? anything : on_its_way)(server, data + 1, size - 1);
  return 0;
}
