// Byte streams between processes: Unix and TCP sockets, always non-blocking and close-on-exec.
#pragma once

#include <sys/socket.h>
#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

namespace lockstep {

// What the link and the console need of a connection: a plain socket, or TLS on one (tls.h).
class Stream {
 public:
  virtual ~Stream() = default;
  virtual int fd() const = 0;
  // As read(2) and send(2) on a non-blocking descriptor: -1 and EAGAIN when it would block, 0 from read at
  // the end. One thread may read while another writes. After EAGAIN the next write must begin with the same
  // bytes.
  virtual ssize_t read(std::span<uint8_t> into) = 0;
  virtual ssize_t write(std::span<const uint8_t> bytes) = 0;
  // Why it ended, as a sentence, where the peer said so.
  virtual std::string problem() const { return {}; }
  // Who is there, as far as that was proved: of TLS the hash of the certificate. Else empty.
  virtual std::string identity() const { return {}; }
};

class TlsAcceptor;
class TlsCredentials;

// Who may be at the other end of TLS: a side of the pair, or a console client as well.
enum class TlsPeer { kSide, kAnyone };

// How TCP connections are protected. Unix sockets need nothing.
struct Security {
  std::shared_ptr<TlsCredentials> tls;  // null: plain
  bool plain_anywhere = false;          // also off the loopback
  bool confined = true;                 // threads that serve them are (sandbox.h)
};

// "unix:/path" or "tcp:host:port" ("tcp:[::1]:port"). A plain TCP address must be on the loopback: anything
// else is refused with ERR_LOCKSTEP_INSECURE_LINK, because a log carries everything the guest ever read.
class Listener {
 public:
  explicit Listener(const std::string& address, const Security& security = {}, TlsPeer peer = TlsPeer::kSide);
  ~Listener();
  Listener(const Listener&) = delete;
  int fd() const;
  // The address to connect to: as given, but with the port that the system chose for port 0.
  const std::string& address() const { return address_; }
  // Null when nobody is waiting.
  std::unique_ptr<Stream> accept();

 private:
  void bind_unix(const std::string& path);
  void bind_tcp(const std::string& host, const std::string& port, const Security& security);
  int fd_ = -1;
  std::unique_ptr<TlsAcceptor> tls_;
  std::string address_;
  std::string unlink_path_;
  uint64_t device_ = 0, inode_ = 0;  // of the Unix path we made: a successor's is not ours to remove
};

// Null, with *error an errno, when nobody answers there (yet). A bad address throws, and so does a peer that
// is none of ours.
std::unique_ptr<Stream> connect_stream(const std::string& address, int timeout_ms, int* error,
                                       const Security& security = {});

// Where the other end of a TCP connection is.
struct TcpPeer {
  sockaddr_storage address{};
  socklen_t size = 0;
};
std::optional<TcpPeer> tcp_peer(int fd);  // nothing for what is not TCP, or not connected any more
bool is_tcp(int fd);
// Whether it is TCP and not on the loopback.
bool leads_away(int fd);
// The kernel takes little more than what it has sent: the rest waits here, where something can be done to it.
void wait_outside(int fd);
// A socket on its way there, or -1 with *error; and where it has come to: 0, EINPROGRESS, or what failed.
int begin_connect(const TcpPeer& to, int* error);
int connect_result(int fd, int timeout_ms);
std::unique_ptr<Stream> plain_stream(int fd);

// What the kernel knows of the way to the other host. Nothing of this shows that the peer's process stands
// still; of what is not TCP nothing is known.
struct Path {
  uint64_t silence_us = 0;  // the other kernel has said nothing for so long, although it owes something
  uint64_t round_trip_us = 0;
  bool queues = false;  // packets wait, before it or somewhere on it: it takes no more than it is given
};
Path look_at_path(int fd);

// One connection of a listening socket, ready for use; -1 when nobody is waiting.
int accept_socket(int listening_fd);

// A connected pair, for tests.
std::pair<std::unique_ptr<Stream>, std::unique_ptr<Stream>> stream_pair();

}  // namespace lockstep
