// A TAP interface of Linux: frames by read(2) and write(2), one each.
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

#include "error.h"
#include "kept_descriptor.h"
#include "kvm/system.h"
#include "net/bridge_port.h"
#include "net/nic.h"

namespace lockstep {

namespace {

class Tap : public Nic {
 public:
  Tap(Fd fd, std::string name, bool flooded)
      : fd_(std::move(fd)),
        name_(std::move(name)),
        index_(static_cast<int>(if_nametoindex(name_.c_str()))),
        flooded_(flooded) {}
  int fd() const override { return fd_.get(); }
  std::string name() const override { return name_; }
  size_t receive(std::span<uint8_t> into) override {
    const ssize_t got = read(fd(), into.data(), into.size());
    return got > 0 ? static_cast<size_t>(got) : 0;
  }
  bool send(std::span<const uint8_t> frame) override {
    return write(fd(), frame.data(), frame.size()) == static_cast<ssize_t>(frame.size());
  }
  // A bridge of this host's alone has learned the machine behind the way to the other host, and would drop
  // what comes from there. It does not learn it behind this port instead: the next shadow could hear nothing.
  void listen_for(const std::array<uint8_t, 6>& address) override {
    if (flooded_) let_bridge_forget(index_, address);
  }

 private:
  Fd fd_;
  const std::string name_;
  const int index_;
  const bool flooded_;
};

constexpr const char* kNoRight =
    "run as root, or have root make the interface for you: `ip tuntap add mode tap user $USER name NAME`";

ifreq request(const std::string& name) {
  ifreq request{};
  std::strncpy(request.ifr_name, name.c_str(), IFNAMSIZ - 1);
  return request;
}

Fd open_tun() {
  Fd fd(open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (fd) return fd;
  if (errno == EACCES || errno == EPERM)
    throw_system("ERR_LOCKSTEP_NET_PERMISSION", "open", "/dev/net/tun", kNoRight);
  throw_system("ERR_LOCKSTEP_NO_TUN", "open", "/dev/net/tun",
               "load the module `tun`; in a container, have /dev/net/tun passed on");
}

// Address, netmask, MTU; then up. `own_address`: the host's, as the gateway; a bridge's port has none.
void configure(const std::string& name, bool own_address, const NetOptions& options) {
  Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  auto set = [&](unsigned long what, const char* operation, ifreq& request) {
    if (ioctl(socket.get(), what, &request) < 0)
      throw_system("ERR_LOCKSTEP_NET", operation, "the interface " + name);
  };
  auto set_address = [&](unsigned long what, const char* operation, uint32_t address) {
    ifreq r = request(name);
    auto* in = reinterpret_cast<sockaddr_in*>(&r.ifr_addr);
    in->sin_family = AF_INET;
    in->sin_addr.s_addr = address;
    set(what, operation, r);
  };
  if (own_address && options.gateway) {
    set_address(SIOCSIFADDR, "SIOCSIFADDR", options.gateway);
    set_address(SIOCSIFNETMASK, "SIOCSIFNETMASK", options.netmask);
  }
  if (!own_address) {
    // The same on both sides of a pair, and none that a card has.
    ifreq address = request(name);
    address.ifr_hwaddr.sa_family = ARPHRD_ETHER;
    std::memcpy(address.ifr_hwaddr.sa_data, options.mac.data(), options.mac.size());
    address.ifr_hwaddr.sa_data[0] = static_cast<char>(0xfe);
    set(SIOCSIFHWADDR, "SIOCSIFHWADDR", address);
  }
  ifreq mtu = request(name);
  mtu.ifr_mtu = options.mtu;
  set(SIOCSIFMTU, "SIOCSIFMTU", mtu);
  // The machine speaks IPv4: what the host would say in IPv6 would only fill the log. Where this cannot be
  // set, it does.
  const std::string quiet = "/proc/sys/net/ipv6/conf/" + name + "/disable_ipv6";
  if (Fd fd(open(quiet.c_str(), O_WRONLY | O_CLOEXEC)); fd) {
    [[maybe_unused]] ssize_t written = write(fd.get(), "1", 1);
  }
  ifreq up = request(name);
  set(SIOCGIFFLAGS, "SIOCGIFFLAGS", up);
  up.ifr_flags |= IFF_UP;
  set(SIOCSIFFLAGS, "SIOCSIFFLAGS", up);
}

// A bridge that was not told its address takes the lowest of its ports', and hosts that knew it by another
// lose it for seconds when a port comes or goes. So it is told to keep the one it has.
void keep_address(const Fd& socket, const std::string& bridge) {
  ifreq own = request(bridge);
  if (ioctl(socket.get(), SIOCGIFHWADDR, &own) == 0) (void)ioctl(socket.get(), SIOCSIFHWADDR, &own);
}

void join_bridge(const std::string& name, const std::string& bridge, bool flooded) {
  Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  keep_address(socket, bridge);
  ifreq r = request(bridge);
  r.ifr_ifindex = static_cast<int>(if_nametoindex(name.c_str()));
  if (ioctl(socket.get(), SIOCBRADDIF, &r) == 0) {
    if (flooded) let_bridge_port_learn_nothing(r.ifr_ifindex);
    return;
  }
  const std::string what = "the bridge " + bridge;
  if (errno == EPERM) throw_system("ERR_LOCKSTEP_NET_PERMISSION", "SIOCBRADDIF", what, kNoRight);
  if (errno == EBUSY) return;  // a port of it, or of another, by its owner's will
  throw_system("ERR_LOCKSTEP_NET", "SIOCBRADDIF", what,
               "make it first: `ip link add " + bridge + " type bridge && ip link set " + bridge + " up`");
}

// As an earlier machine of this process left it. What came in meanwhile was not for the next one.
std::unique_ptr<Nic> take_over(Fd fd, bool flooded) {
  ifreq r{};
  if (ioctl(fd.get(), TUNGETIFF, &r) < 0)
    throw_system("ERR_LOCKSTEP_NET", "TUNGETIFF", "an interface of this process's");
  constexpr int kFramesMax = 4096;
  uint8_t frame[65536];
  for (int i = 0; i < kFramesMax && read(fd.get(), frame, sizeof frame) > 0; i++) {
  }
  return std::make_unique<Tap>(std::move(fd), r.ifr_name, flooded);
}

}  // namespace

std::unique_ptr<Nic> open_tap(const NicConfig& config, const NetOptions& options) {
  const std::string &name = config.name, &bridge = config.bridge;
  const bool flooded = config.flooded && !bridge.empty();
  const std::string as = "tap " + name + " " + bridge;
  if (config.kept)
    if (Fd kept = kept_descriptor(as)) return take_over(std::move(kept), flooded);
  const bool exists = !name.empty() && if_nametoindex(name.c_str()) != 0;
  Fd fd = open_tun();
  ifreq r = request(name.empty() ? "lockstep%d" : name);
  r.ifr_flags = IFF_TAP | IFF_NO_PI;
  if (ioctl(fd.get(), TUNSETIFF, &r) < 0) {
    const std::string what = "the interface " + (name.empty() ? "lockstep%d" : name);
    if (errno == EPERM) throw_system("ERR_LOCKSTEP_NET_PERMISSION", "TUNSETIFF", what, kNoRight);
    if (errno == EBUSY)
      throw_system("ERR_LOCKSTEP_NET_BUSY", "TUNSETIFF", what, "another process has it: take another name");
    throw_system("ERR_LOCKSTEP_NET", "TUNSETIFF", what,
                 exists ? "it exists and is no TAP interface of one queue: take another name" : "");
  }
  if (!exists) configure(r.ifr_name, bridge.empty(), options);
  if (!bridge.empty()) join_bridge(r.ifr_name, bridge, config.flooded);
  if (config.kept) keep_descriptor(as, fd.get());
  return std::make_unique<Tap>(std::move(fd), r.ifr_name, flooded);
}

}  // namespace lockstep
