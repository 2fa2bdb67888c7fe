// The guest kernel's DHCP client against a server that is written here, in virtual time: what it asks and
// when, and that it believes nothing that cannot be.
#include <cstring>
#include <functional>

#include "test/check.h"
#include "test/net_world.h"

using namespace lockstep::test;

namespace {

constexpr uint32_t kServer = 0x0a090001, kOffered = 0x0a090032;
constexpr uint64_t kSecond = 1'000'000'000;
enum : uint8_t { kDiscover = 1, kOffer, kRequest, kDecline, kAck, kNak };

using Bytes = std::vector<uint8_t>;

uint32_t get32(const uint8_t* p) { return uint32_t(p[0]) << 24 | p[1] << 16 | p[2] << 8 | p[3]; }
void append32(Bytes& to, uint32_t v) {
  for (int shift : {24, 16, 8, 0}) to.push_back(static_cast<uint8_t>(v >> shift));
}

Bytes option(uint8_t number, const Bytes& value) {
  Bytes made{number, static_cast<uint8_t>(value.size())};
  made.insert(made.end(), value.begin(), value.end());
  return made;
}
Bytes option(uint8_t number, std::initializer_list<uint32_t> values) {
  Bytes value;
  for (uint32_t v : values) append32(value, v);
  return option(number, value);
}
Bytes operator+(Bytes a, const Bytes& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

struct Heard {  // a message of the client
  uint64_t at;
  uint8_t type = 0;
  uint32_t transaction, from, to, client, wanted = 0, server = 0;
  bool broadcast;
};

struct Client {
  Client() : stack("client", net_config_of(0, 2)) {
    world_now = 1'000 * kSecond;
    net_configure(0, 0, 0);
    stack.transmit = [this](Frame f) { take(f); };
    stack.enter();
    net_dhcp_start();
  }
  void take(const Frame& f) {
    if (f.size() < 282 || f[23] != 17 || f[37] != 67) return;
    CHECK(f[35] == 68 && f[42] == 1 && get32(&f[278]) == 0x63825363 && !memcmp(&f[70], "\2\0\0\0\0\2", 6));
    Heard h{world_now, 0, get32(&f[46]),      get32(&f[26]), get32(&f[30]), get32(&f[54]),
            0,         0, (f[52] & 0x80) != 0};
    for (size_t i = 282; i + 1 < f.size() && f[i] != 255; i += f[i] ? 2u + f[i + 1] : 1) {
      if (f[i] == 53) h.type = f[i + 2];
      if (f[i] == 50) h.wanted = get32(&f[i + 2]);
      if (f[i] == 54) h.server = get32(&f[i + 2]);
    }
    heard.push_back(h);
  }
  // A message of a server's, as it should be but for what `spoil` does to it.
  void say(
      uint32_t yours, const Bytes& options, const std::function<void(Bytes&)>& spoil = [](Bytes&) {}) {
    Bytes m(236);
    m[0] = 2, m[1] = 1, m[2] = 6;
    for (int i = 0; i < 4; i++) {
      m[4 + static_cast<size_t>(i)] = static_cast<uint8_t>(heard.back().transaction >> (24 - 8 * i));
      m[16 + static_cast<size_t>(i)] = static_cast<uint8_t>(yours >> (24 - 8 * i));
    }
    memcpy(&m[28], "\2\0\0\0\0\2", 6);
    append32(m, 0x63825363);
    m = m + options;
    spoil(m);
    const size_t size = m.size();
    Bytes ip{0x45, 0, uint8_t((size + 28) >> 8), uint8_t(size + 28), 0, 0, 0, 0, 64, 17, 0, 0};
    append32(ip, kServer), append32(ip, 0xffffffff);
    uint32_t sum = 0;
    for (size_t i = 0; i < 20; i += 2) sum += uint32_t(ip[i] << 8 | ip[i + 1]);
    sum = (sum & 0xffff) + (sum >> 16);
    ip[10] = uint8_t(~sum >> 8), ip[11] = uint8_t(~sum);
    const Bytes udp{0, 67, 0, 68, uint8_t((size + 8) >> 8), uint8_t(size + 8), 0, 0};
    const Frame f = Bytes{255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 9, 8, 0} + ip + udp + m;
    net_input(f.data(), f.size());
    net_flush();
  }
  void let_pass(uint64_t ns) {
    for (const uint64_t end = world_now + ns;;) {
      if (net_timer_due() > end) {
        world_now = end;
        return;
      }
      world_now = std::max(world_now, net_timer_due());
      net_timers();
      answer_arp();
    }
  }
  // Who renews asks the server itself.
  void answer_arp() {
    Frame arp(42);
    const uint8_t head[22] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 2};
    memcpy(arp.data(), head, sizeof head);
    arp[22] = 2, arp[27] = 9;
    const struct net_lease* l = net_lease();
    for (int i = 0; i < 4; i++) {
      arp[28 + static_cast<size_t>(i)] = static_cast<uint8_t>(kServer >> (24 - 8 * i));
      arp[38 + static_cast<size_t>(i)] = static_cast<uint8_t>((l ? l->ip : 0) >> (24 - 8 * i));
    }
    arp[32] = 2, arp[37] = 2;
    net_input(arp.data(), arp.size());
  }
  std::vector<uint8_t> types() const {
    std::vector<uint8_t> all;
    for (const Heard& h : heard) all.push_back(h.type);
    return all;
  }
  NetStack stack;
  std::vector<Heard> heard;
};

Bytes lease_of(uint8_t type, uint32_t seconds) {
  return option(53, Bytes{type}) + option(54, {kServer}) + option(51, {seconds}) + option(1, {0xffffff00u}) +
         option(3, {kServer, kServer + 1}) + option(6, {0x01010101u, 0, 0x08080808u, 7, 9}) +
         option(15, Bytes{'l', 'a', 'b', '.', 'x', 0}) + Bytes{255};
}

void bind(Client& c, uint32_t seconds) {
  c.say(kOffered, lease_of(kOffer, seconds));
  c.say(kOffered, lease_of(kAck, seconds));
  CHECK(net_lease() != nullptr);
}

}  // namespace

TEST(net_dhcp_takes_what_is_offered) {
  Client c;
  CHECK(c.heard.size() == 1 && c.heard[0].type == kDiscover && c.heard[0].broadcast);
  CHECK(c.heard[0].from == 0 && c.heard[0].to == 0xffffffff && net_lease() == nullptr);
  c.say(kOffered, lease_of(kOffer, 3600));
  c.say(kOffered + 1, lease_of(kOffer, 3600));  // a second offer changes nothing
  CHECK(c.heard.size() == 2 && c.heard[1].type == kRequest);
  CHECK(c.heard[1].wanted == kOffered && c.heard[1].server == kServer && c.heard[1].client == 0);
  CHECK(c.heard[1].transaction == c.heard[0].transaction && net_lease() == nullptr);
  c.say(kOffered, lease_of(kAck, 3600));
  const struct net_lease* l = net_lease();
  CHECK(l && l->ip == kOffered && l->netmask == 0xffffff00 && l->gateway == kServer);
  CHECK(l->dns_count == 3 && l->dns[0] == 0x01010101 && l->dns[1] == 0x08080808 && l->dns[2] == 7);
  CHECK(!strcmp(l->domain, "lab.x"));
}

TEST(net_dhcp_asks_again_and_less_and_less_often) {
  Client c;
  c.let_pass(600 * kSecond);
  CHECK(c.heard.size() >= 12 && c.heard.size() <= 17);
  for (size_t i = 1; i < c.heard.size(); i++) {
    const double gap = double(c.heard[i].at - c.heard[i - 1].at) / 1e9;
    const double usual = double(std::min<uint64_t>(1ull << (i - 1), 64));
    CHECK(c.heard[i].type == kDiscover && gap >= usual * 0.87 && gap <= usual * 1.13);
  }
  c.say(kOffered, lease_of(kOffer, 3600));
  const size_t before = c.heard.size();
  c.let_pass(30 * kSecond);  // the server is gone again: from the start
  CHECK(c.heard.size() > before + 1 && c.heard[before].type == kRequest && c.heard.back().type == kDiscover);
  CHECK(c.heard.back().transaction != c.heard[0].transaction);
  bind(c, 3600);
}

TEST(net_dhcp_renews_rebinds_and_gives_up) {
  Client c;
  bind(c, 3600);
  c.heard.clear();
  c.let_pass(1795 * kSecond);
  CHECK(c.heard.empty());
  c.let_pass(10 * kSecond);  // T1: the server alone is asked
  CHECK(c.heard.size() == 1 && c.heard[0].type == kRequest && c.heard[0].to == kServer);
  CHECK(c.heard[0].client == kOffered && !c.heard[0].wanted && !c.heard[0].server && !c.heard[0].broadcast);
  const uint64_t renewed = world_now;
  c.say(kOffered, lease_of(kAck, 3600));
  c.heard.clear();
  c.let_pass(3140 * kSecond);  // nobody answers from now on
  CHECK(c.heard.size() >= 3 && c.heard.size() <= 12);
  for (const Heard& h : c.heard) CHECK(h.type == kRequest && h.to == kServer);
  c.heard.clear();
  c.let_pass(440 * kSecond);  // T2: whoever hears it
  CHECK(c.heard.size() >= 2 && c.heard.size() <= 8 && net_lease() != nullptr);
  for (const Heard& h : c.heard) CHECK(h.type == kRequest && h.to == 0xffffffff && h.from == kOffered);
  c.let_pass(renewed + 3601 * kSecond - world_now);
  CHECK(net_lease() == nullptr && c.heard.back().type == kDiscover && c.heard.back().from == 0);
  bind(c, 3600);
}

TEST(net_dhcp_keeps_a_lease_for_ever_and_follows_the_servers_times) {
  Client c;
  bind(c, 0xffffffff);
  c.heard.clear();
  c.let_pass(100'000'000 * kSecond);
  CHECK(c.heard.empty() && net_lease() != nullptr);
  Client d;
  d.say(kOffered, lease_of(kOffer, 3600));
  d.say(kOffered, option(58, {100}) + option(59, {200}) + lease_of(kAck, 3600));
  d.heard.clear();
  d.let_pass(99 * kSecond);
  CHECK(d.heard.empty());
  d.let_pass(102 * kSecond);
  CHECK(d.heard.size() >= 2 && d.heard[0].to == kServer && d.heard.back().to == 0xffffffff);
}

TEST(net_dhcp_starts_anew_when_refused_but_makes_no_flood) {
  Client c;
  for (int i = 0; i < 20; i++) {
    c.say(kOffered, lease_of(kOffer, 3600));
    c.say(0, option(53, Bytes{kNak}) + option(54, {kServer}) + Bytes{255});
    c.let_pass(kSecond / 10);
  }
  CHECK(c.heard.size() <= 8 && net_lease() == nullptr);
  c.let_pass(3 * kSecond);
  bind(c, 3600);
  c.let_pass(1801 * kSecond);
  c.say(0, option(53, Bytes{kNak}) + option(54, {kServer + 1}) + Bytes{255});  // not its server
  CHECK(net_lease() != nullptr);
  c.say(0, option(53, Bytes{kNak}) + option(54, {kServer}) + Bytes{255});
  CHECK(net_lease() == nullptr);
}

TEST(net_dhcp_reads_options_from_other_fields) {
  Client c;
  const Bytes inner = option(54, {kServer}) + option(51, {3600}) + option(1, {0xffffff00u}) + Bytes{255};
  auto spread = [&](uint8_t type) {
    c.say(kOffered, option(52, Bytes{3}) + Bytes{255}, [&](Bytes& m) {
      std::copy(inner.begin(), inner.end(), m.begin() + 108);
      const Bytes kind = option(53, Bytes{type}) + Bytes{255};
      std::copy(kind.begin(), kind.end(), m.begin() + 44);
    });
  };
  spread(kOffer), spread(kAck);
  CHECK(net_lease() && net_lease()->ip == kOffered && net_lease()->gateway == 0);
}

TEST(net_dhcp_believes_nothing_that_cannot_be) {
  auto refused = [](
                     uint32_t ip, const Bytes& options,
                     const std::function<void(Bytes&)>& spoil = [](Bytes&) {}) {
    Client c;
    c.say(ip, options, spoil);
    return c.heard.size() == 1;
  };
  const Bytes good = lease_of(kOffer, 3600);
  CHECK(!refused(kOffered, good));
  for (uint32_t ip : {0u, 0x0a090000u, 0x0a0900ffu, 0x7f000001u, 0xe0000001u, 0xffffffffu, 0x00000005u})
    CHECK(refused(ip, good));
  for (uint32_t mask : {0xff00ff00u, 0x00ffffffu, 0xfffffffeu, 0xffffffffu, 0x80000000u, 1u})
    CHECK(refused(kOffered, option(53, Bytes{kOffer}) + option(54, {kServer}) + option(51, {3600}) +
                                option(1, {mask})));
  for (uint32_t server : {0u, 0xffffffffu, 0x7f000001u, 0xe0000001u})
    CHECK(refused(kOffered, option(53, Bytes{kOffer}) + option(54, {server}) + option(51, {3600})));
  CHECK(refused(kOffered, lease_of(kOffer, 9)) && refused(kOffered, lease_of(kAck, 3600)));
  CHECK(refused(kOffered, option(53, Bytes{kOffer}) + option(54, {kServer})));             // for how long?
  for (size_t at : {size_t{0}, size_t{1}, size_t{2}, size_t{4}, size_t{28}, size_t{236}})  // another's
    CHECK(refused(kOffered, good, [at](Bytes& m) { m[at] ^= 0x40; }));
  for (size_t size = 0; size < 250; size++)
    CHECK(refused(kOffered, good, [size](Bytes& m) { m.resize(size); }));
  // A gateway that cannot be reached is none; a domain that would be more than a name is none.
  Client c;
  const Bytes odd = option(3, {0x0b000001u}) + option(15, Bytes{'a', '\n', 'b'});
  auto with_odd = [&](uint8_t type) {
    return option(53, Bytes{type}) + option(54, {kServer}) + option(51, {60}) + option(1, {0xffffff00u}) +
           odd;
  };
  c.say(kOffered, with_odd(kOffer)), c.say(kOffered, with_odd(kAck));
  CHECK(net_lease() && net_lease()->gateway == 0 && net_lease()->domain[0] == 0);
}

TEST(net_dhcp_survives_garbage) {
  auto& draw = lockstep::test::random();
  for (int round = 0; round < 200; round++) {
    Client c;
    for (int i = 0; i < 200; i++) {
      Bytes options =
          lease_of(draw() % 2 ? kOffer : kAck, static_cast<uint32_t>(draw() >> (32 + draw() % 30)));
      for (uint64_t n = draw() % 6; n--;) options[draw() % options.size()] = static_cast<uint8_t>(draw());
      c.say(draw() % 4 ? kOffered : static_cast<uint32_t>(draw()), options, [&](Bytes& m) {
        if (draw() % 8 == 0) m.resize(draw() % m.size());
        if (draw() % 8 == 0 && !m.empty()) m[draw() % m.size()] = static_cast<uint8_t>(draw());
      });
      c.let_pass(draw() % (kSecond << (draw() % 12)));
      CHECK(c.heard.size() < 100'000);
      if (const struct net_lease* l = net_lease()) CHECK(l->ip && l->netmask && l->dns_count <= NET_DNS_MAX);
    }
  }
}
