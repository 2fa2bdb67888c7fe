#include "link/socket.h"

#include <arpa/inet.h>
#include <linux/tcp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "error.h"
#include "link/tls.h"

namespace lockstep {
namespace {

constexpr int kFlags = SOCK_NONBLOCK | SOCK_CLOEXEC;
constexpr int kBacklog = 16;

class PlainStream final : public Stream {
 public:
  explicit PlainStream(int fd) : fd_(fd) {}
  ~PlainStream() override { ::close(fd_); }
  int fd() const override { return fd_; }
  ssize_t read(std::span<uint8_t> into) override {
    return ::recv(fd_, into.data(), into.size(), MSG_DONTWAIT);
  }
  ssize_t write(std::span<const uint8_t> bytes) override {
    return ::send(fd_, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  }

 private:
  int fd_;
};

struct Parts {
  bool is_unix = false;
  std::string path, host, port;
};

[[noreturn]] void bad_address(const std::string& address, const std::string& why) {
  throw Failure("ERR_LOCKSTEP_ADDRESS_INVALID", "\"" + address + "\" is not an address: " + why,
                "Write unix:/path/to/socket or tcp:127.0.0.1:port.");
}

Parts parse(const std::string& address) {
  Parts parts;
  if (address.rfind("unix:", 0) == 0) {
    parts.is_unix = true;
    parts.path = address.substr(5);
    if (parts.path.empty()) bad_address(address, "the path is empty.");
    if (parts.path.size() >= sizeof(sockaddr_un::sun_path)) bad_address(address, "the path is too long.");
    return parts;
  }
  if (address.rfind("tcp:", 0) != 0) bad_address(address, "it starts with neither unix: nor tcp:.");
  std::string rest = address.substr(4);
  size_t colon = rest.rfind(':');
  if (colon == std::string::npos) bad_address(address, "the port is missing.");
  parts.host = rest.substr(0, colon);
  parts.port = rest.substr(colon + 1);
  if (parts.host.size() > 2 && parts.host.front() == '[' && parts.host.back() == ']') {
    parts.host = parts.host.substr(1, parts.host.size() - 2);
  }
  bool digits = !parts.port.empty() && parts.port.size() <= 5 &&
                parts.port.find_first_not_of("0123456789") == std::string::npos;
  if (!digits || std::stoul(parts.port) > 65535)
    bad_address(address, "the port is not a number up to 65535.");
  if (parts.host.empty()) bad_address(address, "the host is empty.");
  return parts;
}

bool is_loopback(const sockaddr* address) {
  if (address->sa_family == AF_INET) {
    return (ntohl(reinterpret_cast<const sockaddr_in*>(address)->sin_addr.s_addr) >> 24) == 127;
  }
  if (address->sa_family != AF_INET6) return false;
  const in6_addr& six = reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr;
  return IN6_IS_ADDR_LOOPBACK(&six) || (IN6_IS_ADDR_V4MAPPED(&six) && six.s6_addr[12] == 127);
}

struct AddressInfo {
  addrinfo* list = nullptr;
  AddressInfo(const std::string& address, const Parts& parts, const Security& security) {
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    int code = getaddrinfo(parts.host.c_str(), parts.port.c_str(), &hints, &list);
    if (code != 0 || list == nullptr)
      bad_address(address, std::string("the host: ") + gai_strerror(code) + ".");
    if (security.tls || security.plain_anywhere) return;
    for (addrinfo* a = list; a != nullptr; a = a->ai_next) {
      if (is_loopback(a->ai_addr)) continue;
      freeaddrinfo(list);
      throw Failure("ERR_LOCKSTEP_INSECURE_LINK",
                    "\"" + address + "\" is not on the loopback, and would be neither secret nor safe.",
                    "Give --tls DIR, with keys made by `lockstep keys DIR`, or --insecure where nobody else "
                    "can reach the network.");
    }
  }
  ~AddressInfo() { freeaddrinfo(list); }
};

sockaddr_un unix_address(const std::string& path) {
  sockaddr_un a{};
  a.sun_family = AF_UNIX;
  memcpy(a.sun_path, path.c_str(), path.size() + 1);
  return a;
}

tcp_info info_of(int fd) {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0) info = {};
  return info;
}

void no_delay(int fd) {
  // Fails on Unix sockets, which never delay.
  int one = 1;
  (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

}  // namespace

Path look_at_path(int fd) {
  // On the way: more than a busy host takes to answer. Here: more than the timer that paces packets is late.
  constexpr uint64_t kQueueUs = 20'000, kUnsentUs = 5'000;
  const tcp_info info = info_of(fd);
  Path path;
  // Its acknowledgement may queue behind much that it sends; the kernel counts that apart.
  const uint64_t heard_ms = std::min(info.tcpi_last_ack_recv, info.tcpi_last_data_recv);
  if (info.tcpi_unacked > 0) path.silence_us = heard_ms * 1000;
  path.round_trip_us = info.tcpi_rtt;
  const uint64_t unsent_us = uint64_t{info.tcpi_notsent_bytes} * 1'000'000 / (info.tcpi_delivery_rate + 1);
  path.queues = info.tcpi_rtt > 2 * uint64_t{info.tcpi_min_rtt} + kQueueUs || unsent_us > kUnsentUs;
  return path;
}

namespace {

// A TCP connect to a free ephemeral port of one's own host may meet itself.
bool is_self_connected(int fd) {
  sockaddr_storage here{}, there{};
  socklen_t here_size = sizeof here, there_size = sizeof there;
  return getsockname(fd, reinterpret_cast<sockaddr*>(&here), &here_size) == 0 &&
         getpeername(fd, reinterpret_cast<sockaddr*>(&there), &there_size) == 0 &&
         here.ss_family != AF_UNIX && here_size == there_size && memcmp(&here, &there, here_size) == 0;
}

int begin_connect(const sockaddr* address, socklen_t size, int* error) {
  int fd = ::socket(address->sa_family, SOCK_STREAM | kFlags, 0);
  if (fd < 0) {
    *error = errno;
    return -1;
  }
  if (::connect(fd, address, size) == 0 || errno == EINPROGRESS) return fd;
  *error = errno;
  ::close(fd);
  return -1;
}

// A connected socket, or -1.
int try_connect(const sockaddr* address, socklen_t size, int timeout_ms, int* error) {
  int fd = begin_connect(address, size, error);
  if (fd < 0) return -1;
  *error = connect_result(fd, timeout_ms);
  if (*error == 0) return fd;
  if (*error == EINPROGRESS) *error = ETIMEDOUT;
  ::close(fd);
  return -1;
}

}  // namespace

std::optional<TcpPeer> tcp_peer(int fd) {
  TcpPeer peer;
  peer.size = sizeof peer.address;
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&peer.address), &peer.size) != 0 ||
      peer.address.ss_family == AF_UNIX)
    return std::nullopt;
  return peer;
}

bool is_tcp(int fd) {
  sockaddr_storage here{};
  socklen_t size = sizeof here;
  return getsockname(fd, reinterpret_cast<sockaddr*>(&here), &size) == 0 && here.ss_family != AF_UNIX;
}

bool leads_away(int fd) {
  const auto peer = tcp_peer(fd);
  return peer && !is_loopback(reinterpret_cast<const sockaddr*>(&peer->address));
}

void wait_outside(int fd) {
  constexpr int kUnsentBytes = 128 * 1024;
  (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &kUnsentBytes, sizeof kUnsentBytes);
}

int begin_connect(const TcpPeer& to, int* error) {
  return begin_connect(reinterpret_cast<const sockaddr*>(&to.address), to.size, error);
}

int connect_result(int fd, int timeout_ms) {
  pollfd p{fd, POLLOUT, 0};
  int ready = poll(&p, 1, timeout_ms);
  if (ready == 0) return EINPROGRESS;
  if (ready < 0) return errno;
  int error = 0;
  socklen_t error_size = sizeof error;
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_size);
  if (error == 0 && is_self_connected(fd)) return ECONNREFUSED;
  if (error == 0) no_delay(fd);
  return error;
}

std::unique_ptr<Stream> plain_stream(int fd) { return std::make_unique<PlainStream>(fd); }

Listener::Listener(const std::string& address, const Security& security, TlsPeer peer) : address_(address) {
  Parts parts = parse(address);
  try {
    if (parts.is_unix) {
      bind_unix(parts.path);
    } else {
      bind_tcp(parts.host, parts.port, security);
    }
    if (::listen(fd_, kBacklog) != 0)
      throw_system("ERR_LOCKSTEP_LISTEN", "listen", "listening on " + address);
    if (security.tls && !parts.is_unix) tls_ = std::make_unique<TlsAcceptor>(fd_, security, peer);
  } catch (...) {
    if (fd_ >= 0) ::close(fd_);
    throw;
  }
}

void Listener::bind_unix(const std::string& path) {
  fd_ = ::socket(AF_UNIX, SOCK_STREAM | kFlags, 0);
  if (fd_ < 0) throw_system("ERR_LOCKSTEP_LISTEN", "socket", "making a socket");
  // On Linux the path inherits the mode of the unbound socket, so it is never open to others, not even
  // briefly.
  (void)fchmod(fd_, 0600);
  sockaddr_un a = unix_address(path);
  auto* plain = reinterpret_cast<const sockaddr*>(&a);
  int result = ::bind(fd_, plain, sizeof a);
  if (result != 0 && errno == EADDRINUSE) {
    // A path that a dead process left behind refuses connections; a living one's must not be stolen.
    int error = 0;
    struct stat before {};
    bool is_socket = ::lstat(path.c_str(), &before) == 0 && S_ISSOCK(before.st_mode);
    int fd = is_socket ? try_connect(plain, sizeof a, 0, &error) : -1;
    if (fd >= 0) ::close(fd);
    if (is_socket && fd < 0 && error == ECONNREFUSED) {
      ::unlink(path.c_str());
      result = ::bind(fd_, plain, sizeof a);
    } else {
      errno = EADDRINUSE;
    }
  }
  if (result != 0) {
    if (errno == EADDRINUSE) {
      throw Failure("ERR_LOCKSTEP_ADDRESS_IN_USE", "Somebody listens on " + address_ + " already.",
                    "Choose another path, or stop the process that uses it.", "bind", EADDRINUSE);
    }
    throw_system("ERR_LOCKSTEP_LISTEN", "bind", "binding " + address_);
  }
  struct stat made {};
  if (::stat(path.c_str(), &made) == 0) {
    unlink_path_ = path;
    device_ = made.st_dev;
    inode_ = made.st_ino;
  }
}

void Listener::bind_tcp(const std::string& host, const std::string& port, const Security& security) {
  AddressInfo info(address_, Parts{false, {}, host, port}, security);
  addrinfo* a = info.list;
  fd_ = ::socket(a->ai_family, SOCK_STREAM | kFlags, 0);
  if (fd_ < 0) throw_system("ERR_LOCKSTEP_LISTEN", "socket", "making a socket");
  int one = 1;
  (void)setsockopt(fd_, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (::bind(fd_, a->ai_addr, a->ai_addrlen) != 0) {
    if (errno == EADDRINUSE) {
      throw Failure("ERR_LOCKSTEP_ADDRESS_IN_USE", "Somebody listens on " + address_ + " already.",
                    "Choose another port; port 0 takes a free one.", "bind", EADDRINUSE);
    }
    throw_system("ERR_LOCKSTEP_LISTEN", "bind", "binding " + address_);
  }
  sockaddr_storage actual{};
  socklen_t size = sizeof actual;
  getsockname(fd_, reinterpret_cast<sockaddr*>(&actual), &size);
  bool is_six = actual.ss_family == AF_INET6;
  uint16_t chosen = ntohs(is_six ? reinterpret_cast<sockaddr_in6*>(&actual)->sin6_port
                                 : reinterpret_cast<sockaddr_in*>(&actual)->sin_port);
  address_ = "tcp:" + (is_six ? "[" + host + "]" : host) + ":" + std::to_string(chosen);
}

int Listener::fd() const { return tls_ ? tls_->fd() : fd_; }

Listener::~Listener() {
  tls_.reset();
  struct stat now {};
  if (!unlink_path_.empty() && ::stat(unlink_path_.c_str(), &now) == 0 && now.st_dev == device_ &&
      now.st_ino == inode_) {
    ::unlink(unlink_path_.c_str());
  }
  ::close(fd_);
}

std::unique_ptr<Stream> Listener::accept() {
  if (tls_) return tls_->take();
  int fd = accept_socket(fd_);
  return fd < 0 ? nullptr : std::make_unique<PlainStream>(fd);
}

int accept_socket(int listening_fd) {
  int fd = ::accept4(listening_fd, nullptr, nullptr, kFlags);
  if (fd >= 0) no_delay(fd);
  return fd;
}

std::unique_ptr<Stream> connect_stream(const std::string& address, int timeout_ms, int* error,
                                       const Security& security) {
  Parts parts = parse(address);
  if (parts.is_unix) {
    sockaddr_un a = unix_address(parts.path);
    int fd = try_connect(reinterpret_cast<const sockaddr*>(&a), sizeof a, timeout_ms, error);
    return fd < 0 ? nullptr : std::make_unique<PlainStream>(fd);
  }
  AddressInfo info(address, parts, security);
  for (addrinfo* a = info.list; a != nullptr; a = a->ai_next) {
    int fd = try_connect(a->ai_addr, a->ai_addrlen, timeout_ms, error);
    if (fd < 0) continue;
    if (!security.tls) return std::make_unique<PlainStream>(fd);
    auto stream = connect_tls(fd, security.tls, TlsPeer::kSide, timeout_ms, error);
    if (stream) return stream;
  }
  return nullptr;
}

std::pair<std::unique_ptr<Stream>, std::unique_ptr<Stream>> stream_pair() {
  int fds[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | kFlags, 0, fds) != 0) {
    throw_system("ERR_LOCKSTEP_LISTEN", "socketpair", "making a pair of sockets");
  }
  return {std::make_unique<PlainStream>(fds[0]), std::make_unique<PlainStream>(fds[1])};
}

}  // namespace lockstep
