// A bad cable between two network interfaces, of two network namespaces perhaps: frames are lost, duplicated,
// overtaken, late, or have to queue for a slow line. What happens to the n-th frame of a direction depends on
// the seed alone.
//
//   relay [--seed N] [--loss P[,P]] ... tap:NAME[@NAMESPACE] packet:NAME[@NAMESPACE]
//
// tap: makes the interface, whose other end is the host's own stack; packet: takes over one that exists and
// that its host leaves alone, such as a machine's TAP. A namespace is a path such as /proc/PID/ns/net.
// Options take one value, or one for frames from the first interface and one for frames from the second.
// Prints "ready", and when its standard input ends, what it did, as a line of JSON. A line of input such as
// "--kbit-s 0" changes an option from there on; "--forget 1" has it forget all TCP connections, as a firewall
// does that was replaced: what belongs to none that it saw begin is swallowed from there on.
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace {

[[noreturn]] void fail(const std::string& what) {
  fprintf(stderr, "relay: %s: %s\n", what.c_str(), errno ? strerror(errno) : "?");
  exit(1);
}

uint64_t now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return uint64_t(t.tv_sec) * 1'000'000'000 + uint64_t(t.tv_nsec);
}

int open_tap(const std::string& name) {
  int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) fail("/dev/net/tun");
  ifreq request{};
  snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name.c_str());
  request.ifr_flags = IFF_TAP | IFF_NO_PI;
  if (ioctl(fd, TUNSETIFF, &request) < 0) fail(name);
  return fd;
}

int open_packet(const std::string& name) {
  int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, htons(ETH_P_ALL));
  sockaddr_ll to{};
  to.sll_family = AF_PACKET, to.sll_protocol = htons(ETH_P_ALL);
  to.sll_ifindex = static_cast<int>(if_nametoindex(name.c_str()));
  int on = 1, bytes = 8 << 20;
  if (fd < 0 || !to.sll_ifindex || bind(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) < 0 ||
      setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) < 0)
    fail(name);
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
  return fd;
}

int open_end(std::string text) {
  size_t at = text.find('@'), colon = text.find(':');
  if (at != std::string::npos) {
    int fd = open(text.c_str() + at + 1, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWNET) < 0) fail(text);
    close(fd);
    text.resize(at);
  }
  errno = 0;
  if (text.starts_with("tap:")) return open_tap(text.substr(colon + 1));
  if (text.starts_with("packet:")) return open_packet(text.substr(colon + 1));
  fail(text);
}

// By the ports of both ends, in either order.
struct Firewall {
  bool watches = false;
  std::set<std::pair<uint16_t, uint16_t>> known;

  void forget() {
    watches = true;
    known.clear();
  }
  bool lets_pass(const uint8_t* frame, size_t length) {
    constexpr size_t kIp = 14;
    if (!watches || length < kIp + 20 || frame[12] != 8 || frame[13] != 0 || frame[kIp + 9] != IPPROTO_TCP)
      return true;
    const size_t tcp = kIp + size_t(frame[kIp] & 15) * 4;
    if (length < tcp + 20) return true;
    const auto port = [&](size_t at) { return uint16_t(frame[at] << 8 | frame[at + 1]); };
    const auto key = std::minmax({port(tcp), port(tcp + 2)});
    constexpr uint8_t kSyn = 2;
    if (frame[tcp + 13] & kSyn) known.insert(key);
    return known.contains(key);
  }
};
Firewall firewall;

struct Way {  // one direction
  double loss = 0, duplicate = 0, reorder = 0, delay_ms = 0, reorder_ms = 0, kbit_s = 0, queue_kb = 1000;
  std::mt19937_64 random;
  uint64_t line_free_at = 0;  // when the last bit of what was queued has left
  uint64_t frames = 0, bytes = 0, lost = 0, duplicated = 0, reordered = 0, overflowed = 0;
  int from = -1, to = -1;
  std::multimap<uint64_t, std::vector<uint8_t>> flying;

  double chance() { return double(random() >> 11) / double(1ull << 53); }

  void arrived(const uint8_t* frame, size_t length) {
    // The same number of draws for each frame, whatever becomes of it.
    bool lose = chance() < loss, twice = chance() < duplicate, late = chance() < reorder;
    double how_late = chance();
    frames++, bytes += length;
    if (lose || !firewall.lets_pass(frame, length)) {
      lost++;
      return;
    }
    uint64_t now = now_ns(), due = now;
    if (kbit_s > 0) {
      line_free_at = std::max(line_free_at, now);
      if (double(line_free_at - now) * kbit_s / 8e6 > queue_kb * 1e3) {
        overflowed++;
        return;
      }
      due = line_free_at += static_cast<uint64_t>(double(length) * 8e6 / kbit_s);
    }
    due += static_cast<uint64_t>(delay_ms * 1e6);
    if (late) due += static_cast<uint64_t>(reorder_ms * 1e6 * how_late), reordered++;
    for (int copies = twice ? 2 : 1; copies--;) flying.emplace(due, std::vector(frame, frame + length));
    duplicated += twice;
  }

  void take() {
    static uint8_t frame[65536];
    for (int i = 0; i < 64; i++) {
      ssize_t length = read(from, frame, sizeof frame);
      if (length <= 0) return;
      arrived(frame, static_cast<size_t>(length));
    }
  }

  void deliver(uint64_t now) {
    while (!flying.empty() && flying.begin()->first <= now) {
      const auto& frame = flying.begin()->second;
      if (write(to, frame.data(), frame.size()) < 0) overflowed++;
      flying.erase(flying.begin());
    }
  }

  std::string report() const {
    std::string text = "{";
    for (auto [name, value] : {std::pair{"frames", frames},
                               {"bytes", bytes},
                               {"lost", lost},
                               {"duplicated", duplicated},
                               {"reordered", reordered},
                               {"overflowed", overflowed}})
      text += (text.size() > 1 ? ",\"" : "\"") + std::string(name) + "\":" + std::to_string(value);
    return text + "}";
  }
};

// Whether there is such an option.
bool set_option(Way (&ways)[2], const std::string& name, const std::string& value) {
  static const std::map<std::string, double Way::*> settings = {
      {"--loss", &Way::loss},         {"--duplicate", &Way::duplicate},   {"--reorder", &Way::reorder},
      {"--delay-ms", &Way::delay_ms}, {"--reorder-ms", &Way::reorder_ms}, {"--kbit-s", &Way::kbit_s},
      {"--queue-kb", &Way::queue_kb}};
  auto found = settings.find(name);
  if (found == settings.end()) return false;
  size_t comma = value.find(',');
  ways[0].*found->second = atof(value.c_str());
  ways[1].*found->second = atof(value.c_str() + (comma == std::string::npos ? 0 : comma + 1));
  return true;
}

// False at its end. A line comes in one piece.
bool take_command(Way (&ways)[2]) {
  char text[128];
  const ssize_t length = read(0, text, sizeof text - 1);
  if (length <= 0) return false;
  text[length] = 0;
  char name[64], value[64];
  if (sscanf(text, "%63s %63s", name, value) == 2) {
    if (strcmp(name, "--forget") == 0) firewall.forget();
    set_option(ways, name, value);
    for (Way& way : ways) way.line_free_at = 0;
  }
  return true;
}

}  // namespace

int main(int count, char** arguments) {
  Way ways[2];
  uint64_t seed = 1;
  int first = 1;
  for (; first + 1 < count && arguments[first][0] == '-'; first += 2) {
    const std::string name = arguments[first], value = arguments[first + 1];
    errno = 0;
    if (name == "--seed") {
      seed = strtoull(value.c_str(), nullptr, 0);
    } else if (!set_option(ways, name, value)) {
      fail(name);
    }
  }
  if (count - first != 2) fail("two interfaces are needed");
  for (int i = 0; i < 2; i++) ways[i].random.seed(seed * 2 + uint64_t(i));
  ways[0].from = ways[1].to = open_end(arguments[first]);
  ways[1].from = ways[0].to = open_end(arguments[first + 1]);
  puts("ready");
  fflush(stdout);
  for (;;) {
    uint64_t now = now_ns(), next = ~0ull;
    for (Way& way : ways) {
      way.deliver(now);
      if (!way.flying.empty()) next = std::min(next, way.flying.begin()->first);
    }
    timespec wait{};
    if (next != ~0ull) wait = {time_t((next - now) / 1'000'000'000), long((next - now) % 1'000'000'000)};
    pollfd polled[3] = {{ways[0].from, POLLIN, 0}, {ways[1].from, POLLIN, 0}, {0, POLLIN, 0}};
    if (ppoll(polled, 3, next == ~0ull ? nullptr : &wait, nullptr) < 0 && errno != EINTR) fail("poll");
    for (int i = 0; i < 2; i++)
      if (polled[i].revents) ways[i].take();
    if (polled[2].revents && !take_command(ways)) break;
  }
  printf("[%s,%s]\n", ways[0].report().c_str(), ways[1].report().c_str());
}
