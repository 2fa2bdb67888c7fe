#include "test/net_world.h"

#include <sys/mman.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "guest/abi.h"

using namespace lockstep::test;

namespace {
uint8_t room[NET_FRAME_MAX];

void* fresh(size_t bytes) {
  void* memory = nullptr;
  if (posix_memalign(&memory, 4096, bytes)) abort();
  world_pages += static_cast<int64_t>(bytes);
  return memset(memory, 0, bytes);
}
}  // namespace

// What the kernel's page.c, lib.c, start.c, clock.c, random.c and driver give.
extern "C" {
void* pages_alloc(size_t count) { return fresh(count * 4096); }
void page_free(uint64_t gpa) {
  world_pages -= 4096;
  free(reinterpret_cast<void*>(gpa + LS_DIRECT_MAP));
}
uint64_t pages_left() { return 65536; }
void* object_alloc(size_t bytes) {
  world_pages += static_cast<int64_t>(bytes);
  return calloc(1, bytes);
}
void object_free(void* object, size_t bytes) {
  if (object == nullptr) return;
  world_pages -= static_cast<int64_t>(bytes);
  free(object);
}
[[noreturn]] void panic(const char* why, uint64_t value) {
  fprintf(stderr, "%s (%llu)\n", why, static_cast<unsigned long long>(value));
  abort();
}
__attribute__((format(printf, 3, 4))) int format(char* to, size_t size, const char* pattern, ...) {
  va_list arguments;
  va_start(arguments, pattern);
  int n = vsnprintf(to, size, pattern, arguments);
  va_end(arguments);
  return n;
}
uint64_t net_now() { return world_now; }
void net_random(void* to, size_t bytes) {
  for (size_t i = 0; i < bytes; i++) static_cast<uint8_t*>(to)[i] = static_cast<uint8_t>(world_random());
}
uint8_t* net_transmit_room() { return world_current->room ? room : nullptr; }
void net_transmit(size_t length) {
  world_current->room--;
  world_current->transmit(Frame(room, room + length));
}
void net_socket_changed(socket*) {}
void net_lease_changed() {}
}

namespace lockstep::test {

net_config net_config_of(uint32_t ip, uint8_t last_of_mac) {
  return {{2, 0, 0, 0, 0, last_of_mac}, 1500, ip, 0xffffff00, 0};
}

namespace {
uint16_t internet_sum(const uint8_t* p, size_t n, uint64_t sum) {
  for (size_t i = 0; i < n; i++) sum += i % 2 ? p[i] : p[i] << 8;
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}
void store16(uint8_t* p, uint64_t v) { p[0] = static_cast<uint8_t>(v >> 8), p[1] = static_cast<uint8_t>(v); }
}  // namespace

void mend(Frame& frame) {
  uint8_t *ip = &frame[14], *payload = ip + 20;
  const size_t bytes = frame.size() - 34;
  store16(ip + 2, frame.size() - 14);
  store16(ip + 10, 0);
  store16(ip + 10, internet_sum(ip, 20, 0));
  const size_t at = ip[9] == 17 ? 6 : 16;
  if (ip[9] == 17) store16(payload + 4, bytes);
  store16(payload + at, 0);
  uint64_t pseudo = ip[9] + bytes;
  for (size_t i = 12; i < 20; i += 2) pseudo += static_cast<uint64_t>(ip[i] << 8 | ip[i + 1]);
  store16(payload + at, internet_sum(payload, bytes, pseudo));
}

NetStack::NetStack(const char* its_name, net_config config) : name(its_name) {
  state = static_cast<struct ::net*>(calloc(1, net_bytes()));
  transmit = [](Frame) {};
  world_current = this;
  net_start(state, &config);
}

NetStack::~NetStack() { free(state); }

void NetStack::enter() {
  world_current = this;
  ::net = state;
}

NetWorld::NetWorld(uint64_t seed, LinkOptions link)
    : a("a", (world_random.seed(seed), net_config_of(0x0a000001, 1))),
      b("b", net_config_of(0x0a000002, 2)),
      options(link),
      random(seed) {
  a.transmit = [this](Frame frame) { send(&b, std::move(frame)); };
  b.transmit = [this](Frame frame) { send(&a, std::move(frame)); };
}

void NetWorld::send(NetStack* to, Frame frame) {
  std::uniform_real_distribution<double> chance;
  frames++;
  if (chance(random) < options.loss) return;
  uint64_t leaves = world_now;
  if (options.bytes_per_s) {
    uint64_t& free_at = line_free_at_[to == &b];
    free_at = std::max(free_at, world_now);
    if ((free_at - world_now) * options.bytes_per_s / 1'000'000'000 + frame.size() > options.queue_bytes) {
      overflowed++;
      return;
    }
    leaves = free_at += frame.size() * 1'000'000'000 / options.bytes_per_s;
  }
  int copies = chance(random) < options.duplicate ? 2 : 1;
  while (copies--) {
    uint64_t delay = options.delay_ns + (options.jitter_ns ? random() % options.jitter_ns : 0);
    if (chance(random) < options.reorder) delay += random() % (options.delay_ns + 1);
    flying_.emplace(leaves + delay, std::pair(to, frame));
  }
}

bool NetWorld::step() {
  uint64_t next = flying_.empty() ? ~0ull : flying_.begin()->first;
  for (NetStack* stack : {&a, &b}) {
    stack->enter();
    stack->room = SIZE_MAX;
    net_flush();
    next = std::min(next, net_timer_due());
  }
  if (next == ~0ull) return false;
  world_now = std::max(world_now, next);
  for (NetStack* stack : {&a, &b}) {
    stack->enter();
    std::vector<Frame> batch;
    for (auto at = flying_.begin(); at != flying_.end() && at->first <= world_now;) {
      if (at->second.first == stack) {
        batch.push_back(std::move(at->second.second));
        at = flying_.erase(at);
      } else {
        ++at;
      }
    }
    for (const Frame& frame : batch) net_input(frame.data(), frame.size());
    net_timers();
  }
  return true;
}

bool NetWorld::run(const std::function<bool()>& done, uint64_t limit_ns) {
  for (uint64_t end = world_now + limit_ns; !done();)
    if (world_now > end || !step()) return done();
  return true;
}

}  // namespace lockstep::test
