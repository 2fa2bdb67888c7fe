// Byte streams between processes: Unix and TCP sockets, always non-blocking and close-on-exec.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace lockstep {

// What the link and the console need of a connection. A TLS stream can stand in its place.
class Stream {
 public:
  virtual ~Stream() = default;
  virtual int fd() const = 0;
  // As read(2) and send(2) on a non-blocking descriptor: -1 and EAGAIN when it would block, 0 from read at
  // the end. One thread may read while another writes.
  virtual ssize_t read(std::span<uint8_t> into) = 0;
  virtual ssize_t write(std::span<const uint8_t> bytes) = 0;
};

// "unix:/path" or "tcp:host:port" ("tcp:[::1]:port"). A plain TCP address must be on the loopback: anything
// else is refused with ERR_LOCKSTEP_INSECURE_LINK, because a log carries everything the guest ever read.
class Listener {
 public:
  explicit Listener(const std::string& address);
  ~Listener();
  Listener(const Listener&) = delete;
  int fd() const { return fd_; }
  // The address to connect to: as given, but with the port that the system chose for port 0.
  const std::string& address() const { return address_; }
  // Null when nobody is waiting.
  std::unique_ptr<Stream> accept();

 private:
  void bind_unix(const std::string& path);
  void bind_tcp(const std::string& host, const std::string& port);
  int fd_ = -1;
  std::string address_;
  std::string unlink_path_;
  uint64_t device_ = 0, inode_ = 0;  // of the Unix path we made: a successor's is not ours to remove
};

// Null, with *error an errno, when nobody answers there (yet). A bad address throws.
std::unique_ptr<Stream> connect_stream(const std::string& address, int timeout_ms, int* error);

// A connected pair, for tests.
std::pair<std::unique_ptr<Stream>, std::unique_ptr<Stream>> stream_pair();

}  // namespace lockstep
