// A Unix datagram socket as a wire: one frame a datagram. For tests, and for those who may not make a TAP.
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <mutex>

#include "error.h"
#include "kvm/system.h"
#include "net/nic.h"

namespace lockstep {

namespace {

// How long a full peer is waited for. Linux lets only a few datagrams queue (net.unix.max_dgram_qlen, 10), so
// that without it every burst would lose frames.
constexpr timeval kPatience{0, 20'000};

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path)
    throw Failure("ERR_LOCKSTEP_NET", path + ": a socket's path has 1 to 107 bytes", "take a shorter one");
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

class UnixNic : public Nic {
 public:
  UnixNic(const std::string& path, const std::string& peer)
      : path_(path), fd_(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    if (!fd_) throw_system("ERR_LOCKSTEP_NET", "socket", path);
    if (!peer.empty()) {
      peer_ = address_of(peer);
      peer_bytes_ = sizeof peer_;
    }
    const sockaddr_un own = address_of(path);
    remove_stale(own);
    if (bind(fd(), reinterpret_cast<const sockaddr*>(&own), sizeof own) < 0) {
      if (errno == EADDRINUSE)
        throw_system("ERR_LOCKSTEP_NET_BUSY", "bind", path,
                     "another process listens there: take another path");
      throw_system("ERR_LOCKSTEP_NET", "bind", path);
    }
    bound_ = true;
    setsockopt(fd(), SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof kPatience);
  }
  ~UnixNic() override {
    if (bound_) unlink(path_.c_str());
  }
  int fd() const override { return fd_.get(); }
  std::string name() const override { return path_; }

  size_t receive(std::span<uint8_t> into) override {
    sockaddr_un from{};
    socklen_t bytes = sizeof from;
    const ssize_t got =
        recvfrom(fd(), into.data(), into.size(), MSG_DONTWAIT, reinterpret_cast<sockaddr*>(&from), &bytes);
    if (got <= 0) return 0;
    if (!fixed() && bytes > offsetof(sockaddr_un, sun_path)) {
      std::lock_guard lock(mutex_);
      learned_ = from;
      learned_bytes_ = bytes;
    }
    return static_cast<size_t>(got);
  }

  bool send(std::span<const uint8_t> frame) override {
    sockaddr_un to = peer_;
    socklen_t bytes = peer_bytes_;
    if (!fixed()) {
      std::lock_guard lock(mutex_);
      to = learned_;
      bytes = learned_bytes_;
    }
    if (bytes == 0) return false;
    // One that was waited for in vain is not waited for again until it has taken something.
    const ssize_t sent = sendto(fd(), frame.data(), frame.size(), MSG_NOSIGNAL | (stuck_ ? MSG_DONTWAIT : 0),
                                reinterpret_cast<const sockaddr*>(&to), bytes);
    stuck_ = sent < 0 && errno == EAGAIN;
    return sent == static_cast<ssize_t>(frame.size());
  }

 private:
  bool fixed() const { return peer_bytes_ != 0; }
  // Left behind by a process that was killed: nobody answers there.
  static void remove_stale(const sockaddr_un& address) {
    Fd probe(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0 &&
        errno == ECONNREFUSED)
      unlink(address.sun_path);
  }
  const std::string path_;
  Fd fd_;
  bool bound_ = false, stuck_ = false;
  sockaddr_un peer_{};
  socklen_t peer_bytes_ = 0;
  std::mutex mutex_;  // a pair sends from its own thread
  sockaddr_un learned_{};
  socklen_t learned_bytes_ = 0;
};

}  // namespace

std::unique_ptr<Nic> open_unix_nic(const std::string& path, const std::string& peer) {
  return std::make_unique<UnixNic>(path, peer);
}

}  // namespace lockstep
