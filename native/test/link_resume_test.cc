// A link that is reset, again and again, while both sides live: nobody outside notices, and both have the
// same history. And what does not count as that: a side that dies, a stranger.
#include <sys/socket.h>

#include "link/link_stream.h"
#include "link/tls.h"
#include "test/link_pairs.h"

namespace lockstep::test {
namespace {

using namespace link_message;

std::unique_ptr<Connection> connection_of(std::unique_ptr<Stream> stream) {
  return std::make_unique<Connection>(std::move(stream));
}

// One end of a LinkStream under test: says numbers, hears numbers.
struct Speaker {
  std::unique_ptr<LinkStream> link;
  uint64_t said = 0, heard = 0;
  void say() {
    const Bytes body(1 + below(below(20) == 0 ? 40'000 : 60), static_cast<uint8_t>(said));
    const auto head = frame_head(body.size());
    switch (below(3)) {
      case 0: link->send(head, body, "test"); break;
      case 1: link->send(encode_link(Frame{body})); break;
      default: link->send(encode_link(Heartbeat{said, false, link->taken()})); break;
    }
    said++;
  }
  void hear() {
    if (link->is_parted()) return;
    link->fill();
    LinkMessage message;
    for (uint64_t n = below(50); n > 0 && link->next(&message); n--, heard++) {
      if (const auto* frame = std::get_if<Frame>(&message)) CHECK(frame->bytes[0] == uint8_t(heard));
      if (const auto* beat = std::get_if<Heartbeat>(&message)) {
        CHECK(beat->time_us == heard);
        link->peer_took(beat->taken);
      }
    }
  }
};

void speak_over_many_connections(Packing packing) {
  Speaker a, b;
  auto [x, y] = stream_pair();
  a.link = std::make_unique<LinkStream>(connection_of(std::move(x)), true, packing);
  b.link = std::make_unique<LinkStream>(connection_of(std::move(y)), true, packing);
  const auto join = [&] {
    auto [p, q] = stream_pair();
    const uint64_t a_took = a.link->taken(), b_took = b.link->taken();
    CHECK(a.link->can_resume(b_took) && b.link->can_resume(a_took));
    CHECK(!a.link->can_resume(a.link->taken() + (1ull << 60)));
    a.link->resume(connection_of(std::move(p)), b_took);
    b.link->resume(connection_of(std::move(q)), a_took);
  };
  for (int step = 0; step < 20'000; step++) {
    if (below(2) == 0) a.say();
    if (below(3) == 0) b.say();
    a.link->flush();
    b.link->flush();
    if (below(2) == 0) a.hear();
    if (below(2) == 0) b.hear();
    if (below(100) == 0) (below(2) ? a : b).link->part();
    if (below(20) == 0 && (a.link->is_parted() || b.link->is_parted())) join();
  }
  join();
  for (int i = 0; i < 100'000 && (a.heard < b.said || b.heard < a.said); i++) {
    a.link->flush();
    b.link->flush();
    a.hear();
    b.hear();
  }
  CHECK(a.heard == b.said && b.heard == a.said && a.said > 5000);
  CHECK(failure_code([&] { a.link->peer_took(1ull << 60); }) == "ERR_LOCKSTEP_LINK_DAMAGED");
}

TEST(a_link_over_many_connections_brings_each_message_once_and_in_order) {
  for (Packing packing : {Packing::kNever, Packing::kWaiting, Packing::kAlways})
    speak_over_many_connections(packing);
}

Security with_tls() {
  static const TlsKeys keys = make_tls_keys(1);
  Security security;
  security.tls = load_tls(keys.ca_certificate, keys.side_certificate, keys.side_key);
  return security;
}

// The grace is long, for a machine with a lot else to do; nothing here hangs on how long.
TestPair tcp_pair(bool with_relay, uint32_t grace_ms, const std::function<void(PairOptions&)>& change = {}) {
  return TestPair(with_relay, [&](PairOptions& o) {
    o.link_address = "tcp:127.0.0.1:0";
    o.grace_ms = grace_ms;
    o.silence_ms = 20'000;
    if (change) change(o);
  });
}

void reset_again_and_again(TestPair& pair) {
  const std::string text = typed_text(6000);
  TestClient client(pair.consoles(), text, 40);
  pair.start();
  size_t at = 0;
  for (int resets = 0; resets < 15 && at < text.size() - 400; resets++) {
    at += 1 + below(350);
    run_until(client, [&] { return client.echoed().size() >= at; });
    pair.relay->reset = static_cast<Relay::Reset>(1 + below(3));
    if (below(3) > 0) run_until(client, [&] { return pair.relay->reset == Relay::kNone; });
  }
  run_until(client, [&] { return client.ended(); });
  pair.primary.thread.join();
  pair.shadow.thread.join();
  CHECK(!pair.primary.failed && !pair.shadow.failed);
  CHECK(client.echoed() == text && client.have() == pair.primary.guest->history());
  CHECK(pair.shadow.guest->history() == pair.primary.guest->history());
  CHECK(pair.primary_wire.stream == pair.primary.guest->frames() && pair.shadow_wire.stream.empty());
  CHECK(!pair.shadow.guest->live() && pair.shadow.guest->ended());
  CHECK(pair.log_bytes == pair.shadow.pair->status().log_bytes);
  for (Side* side : {&pair.primary, &pair.shadow}) {
    CHECK(side->time_of(PairNotice::kResumed) != 0);
    CHECK(side->time_of(PairNotice::kSuspected) == 0 && side->time_of(PairNotice::kClaiming) == 0);
  }
}

TEST(resets_of_a_link_pass_unnoticed) {
  for (int round = 0; round < 5; round++) {
    TestPair pair = tcp_pair(true, 10'000);
    reset_again_and_again(pair);
  }
}

TEST(a_reset_at_the_end_of_the_machine_passes_unnoticed) {
  for (int round = 0; round < 60; round++) {
    TestPair pair = tcp_pair(true, 10'000);
    const std::string text = typed_text(60);
    TestClient client(pair.consoles(), text, 40);
    pair.start();
    const size_t at = text.size() - below(8);
    run_until(client, [&] { return client.echoed().size() >= at; });
    for (int resets = 0; resets < 3; resets++) {
      if (below(2)) client.step(0);
      pair.relay->reset = static_cast<Relay::Reset>(1 + below(3));
      if (below(2)) poll(nullptr, 0, 1);
    }
    run_until(client, [&] { return client.ended(); });
    pair.primary.thread.join();
    pair.shadow.thread.join();
    CHECK(client.echoed() == text && client.generation() == 1 && !pair.shadow.guest->live());
    for (Side* side : {&pair.primary, &pair.shadow})
      CHECK(side->time_of(PairNotice::kSuspected) == 0 && side->time_of(PairNotice::kClaiming) == 0);
  }
}

TEST(resets_of_a_link_that_compresses_pass_unnoticed) {
  TestPair pair = tcp_pair(true, 10'000, [](PairOptions& o) { o.compress = PairOptions::Compress::kAlways; });
  reset_again_and_again(pair);
}

TEST(resets_of_a_link_with_tls_pass_unnoticed) {
  TestPair pair = tcp_pair(true, 10'000, [](PairOptions& o) { o.security = with_tls(); });
  reset_again_and_again(pair);
}

TEST(a_side_that_dies_is_not_given_the_grace_that_a_reset_link_is) {
  for (int round = 0; round < 10; round++) {
    TestPair pair = tcp_pair(false, 3'600'000);
    const std::string text = typed_text(400);
    TestClient client(pair.consoles(), text, 30);
    pair.start();
    const size_t at = 100 + below(300);
    run_until(client, [&] { return client.echoed().size() >= at; });
    (round % 2 ? pair.primary : pair.shadow).kill();
    run_until(client, [&] { return client.ended(); });
    CHECK(client.echoed() == text);
  }
}

TEST(a_reset_and_then_a_death_within_the_grace) {
  for (int round = 0; round < 10; round++) {
    TestPair pair = tcp_pair(true, 300);
    const std::string text = typed_text(400);
    TestClient client(pair.consoles(), text, 30);
    pair.start();
    const size_t at = 1 + below(text.size() - 1);
    run_until(client, [&] { return client.echoed().size() >= at; });
    pair.relay->reset = static_cast<Relay::Reset>(1 + below(3));
    if (below(2)) poll(nullptr, 0, static_cast<int>(below(5)));
    const bool dies = round % 2 == 0;
    (dies ? pair.primary : pair.shadow).kill();
    run_until(client, [&] { return client.ended(); });
    CHECK(client.echoed() == text);
    Side& winner = dies ? pair.shadow : pair.primary;
    if (!dies || client.generation() == 2) {
      winner.thread.join();
      CHECK(client.have() == winner.guest->history() && !winner.failed);
    }
  }
}

TEST(a_reset_for_good_leaves_exactly_one) {
  for (int round = 0; round < 6; round++) {
    TestPair pair = tcp_pair(true, 50);
    const std::string text = typed_text(400);
    TestClient client(pair.consoles(), text, 30);
    client.types_until = 300;
    pair.start();
    const size_t at = 1 + below(299);
    run_until(client, [&] { return client.echoed().size() >= at; });
    pair.relay->cut = true;
    client.types_until = SIZE_MAX;
    run_until(client, [&] { return client.ended(); });
    CHECK(client.echoed() == text);
    // The loser hears of it when the arbiter has answered.
    run_until(client, [&] { return pair.primary.pair->status().live != pair.shadow.pair->status().live; });
  }
}

// Learns who the shadow is, as anybody can who may read the arbiter.
class SpyArbiter : public Arbiter {
 public:
  bool arm(const std::string& p, uint64_t g, const std::string& s) override {
    std::lock_guard lock(mutex_);
    shadow_id_ = s;
    return inner_->arm(p, g, s);
  }
  Claim claim(const std::string& p, uint64_t g, const std::string& c) override {
    return inner_->claim(p, g, c);
  }
  std::string shadow_id() {
    std::lock_guard lock(mutex_);
    return shadow_id_;
  }

 private:
  std::mutex mutex_;
  std::string shadow_id_;
  std::shared_ptr<Arbiter> inner_ = make_memory_arbiter("spy");
};

std::string answer_to(const std::string& address, const Resume& resume) {
  int error;
  Connection connection(connect_stream(address, 5000, &error));
  connection.send(encode_link(resume));
  LinkMessage message;
  for (int i = 0; i < 5000; i++) {
    const bool closed = connection.fill() == Connection::Fill::kClosed;
    if (parse_link(connection.unread(), &message) > 0) {
      const auto* refused = std::get_if<Refused>(&message);
      return refused ? refused->why : "taken";
    }
    if (closed) return "closed";
    poll(nullptr, 0, 1);
  }
  return "silence";
}

TEST(a_stranger_cannot_go_on_with_a_link_and_does_not_disturb_it) {
  auto arbiter = std::make_shared<SpyArbiter>();
  TestPair pair = tcp_pair(false, 10'000, [&](PairOptions& o) { o.arbiter = arbiter; });
  const std::string text = typed_text(1000);
  TestClient client(pair.consoles(), text, 30);
  client.types_until = 800;
  pair.start();
  run_until(client, [&] { return client.echoed().size() > 100; });
  const std::string link = pair.primary.pair->status().link_address;
  const std::string id = pair.options.pair_id, shadow = arbiter->shadow_id();
  for (const Resume& wrong : {Resume{{"other", shadow, 1}, 99, 0}, Resume{{id, "another", 1}, 99, 0},
                              Resume{{id, shadow, 2}, 99, 0}, Resume{{id, shadow, 1}, 99, 1ull << 62}}) {
    CHECK(answer_to(link, wrong) == "There is no link to go on with.");
  }
  // Who says nothing, or nonsense, is no concern of the pair's either.
  int error;
  std::vector<std::unique_ptr<Connection>> strays;
  for (int i = 0; i < 40; i++) {
    strays.push_back(connection_of(connect_stream(link, 5000, &error)));
    if (i % 2) strays.back()->send(Bytes(1 + below(3000), uint8_t(below(256))));
    client.step(0);
  }
  client.types_until = SIZE_MAX;
  run_until(client, [&] { return client.ended(); });
  CHECK(client.echoed() == text && client.generation() == 1);
  CHECK(pair.primary.time_of(PairNotice::kResumed) == 0 && pair.primary.time_of(PairNotice::kSuspected) == 0);
}

std::unique_ptr<Connection> call_as_witness(const std::string& address, const Witness& witness) {
  int error;
  auto connection = connection_of(connect_stream(address, 5000, &error));
  connection->send(encode_link(witness));
  return connection;
}

bool hangs_up(Connection& connection) {
  pollfd p{connection.fd(), POLLIN, 0};
  return poll(&p, 1, 10'000) == 1 && connection.fill() == Connection::Fill::kClosed;
}

TEST(a_connection_that_the_shadow_gave_up_is_not_believed_when_it_arrives_late) {
  auto arbiter = std::make_shared<SpyArbiter>();
  TestPair pair = tcp_pair(true, 10'000, [&](PairOptions& o) { o.arbiter = arbiter; });
  const std::string text = typed_text(1000);
  TestClient client(pair.consoles(), text, 30);
  client.types_until = 500;
  pair.start();
  run_until(client, [&] { return client.echoed().size() > 100; });
  const std::string link = pair.primary.pair->status().link_address;
  const LinkName name{pair.options.pair_id, arbiter->shadow_id(), 1};
  // In the shadow's place, which has called as often as it has resumed at least: calls that were under way
  // for long.
  for (size_t resets = 1; resets <= 5; resets++) {
    pair.relay->reset = Relay::kBoth;
    run_until(client, [&] {
      return pair.primary.count(PairNotice::kResumed) == resets &&
             pair.shadow.count(PairNotice::kResumed) == resets;
    });
    const auto late = call_as_witness(link, {name, resets});
    shutdown(late->fd(), SHUT_WR);
    CHECK(hangs_up(*late));
    CHECK(answer_to(link, Resume{name, resets, 0}) == "closed");
  }
  client.types_until = SIZE_MAX;
  run_until(client, [&] { return client.ended(); });
  CHECK(client.echoed() == text && client.generation() == 1);
  CHECK(pair.primary.time_of(PairNotice::kSuspected) == 0);
}

TEST(the_end_of_the_newest_witness_is_the_end_of_its_shadow) {
  auto arbiter = std::make_shared<SpyArbiter>();
  TestPair pair = tcp_pair(true, 3'600'000, [&](PairOptions& o) { o.arbiter = arbiter; });
  const std::string text = typed_text(1000);
  TestClient client(pair.consoles(), text, 30);
  client.types_until = 500;
  pair.start();
  run_until(client, [&] { return client.echoed().size() > 100; });
  const LinkName name{pair.options.pair_id, arbiter->shadow_id(), 1};
  const auto newest = call_as_witness(pair.primary.pair->status().link_address, {name, 1000});
  shutdown(newest->fd(), SHUT_WR);
  CHECK(hangs_up(*newest));
  pair.relay->cut = true;
  run_until(client, [&] { return pair.primary.time_of(PairNotice::kSuspected) != 0; });
  client.types_until = SIZE_MAX;
  run_until(client, [&] { return client.ended(); });
  CHECK(client.echoed() == text);
  CHECK(pair.primary.first(PairNotice::kSuspected).detail.ends_with("The shadow's process is gone."));
}

}  // namespace
}  // namespace lockstep::test
