// Pairs in one process: real sockets, real threads, a fake guest.
#include "test/link_pairs.h"

namespace lockstep::test {
namespace {

TEST(a_pair_runs_to_its_end_and_the_shadow_follows) {
  TestPair pair;
  std::string text = typed_text(3000);
  TestClient client(pair.consoles(), text, 50);
  pair.start();
  run_until(client, [&] { return client.ended(); });
  pair.primary.thread.join();
  pair.shadow.thread.join();
  CHECK(!pair.primary.failed && !pair.shadow.failed);
  CHECK(client.echoed() == text && client.have() == pair.primary.guest->history());
  CHECK(pair.shadow.guest->history() == pair.primary.guest->history());
  CHECK(pair.primary_wire.stream == pair.primary.guest->frames() && pair.shadow_wire.stream.empty());
  CHECK(!pair.shadow.guest->live() && pair.shadow.guest->ended());
  CHECK(pair.log_bytes == pair.shadow.pair->status().log_bytes && pair.log_bytes > 0);
  CHECK(pair.shadow.time_of(PairNotice::kPeerEnded) != 0);
  // The primary leaves, and the shadow does not take over.
  pair.primary.kill();
  Record record;
  RecordSource::Next next;
  while ((next = pair.shadow.pair->next(&record)) == RecordSource::Next::kRecord) {
  }
  CHECK(next == RecordSource::Next::kEnd);
  CHECK(pair.shadow.time_of(PairNotice::kClaiming) == 0);
}

TEST(two_hundred_primaries_die_and_nothing_is_lost_or_changed) {
  std::vector<uint64_t> pauses;
  for (int round = 0; round < 200; round++) {
    TestPair pair;
    std::string text = typed_text(200 + below(400));
    TestClient client(pair.consoles(), text, 1 + below(60));
    pair.start();
    size_t at = 1 + below(text.size() - 1);
    run_until(client, [&] { return client.echoed().size() >= at; });
    uint64_t killed_us = clock_us();
    pair.primary.kill();
    run_until(client, [&] { return client.ended(); });
    CHECK(client.echoed() == text);
    // A client that has heard the end does not come back for a shadow that has not.
    if (client.generation() == 1) continue;
    pair.shadow.thread.join();
    CHECK(!pair.primary.failed && !pair.shadow.failed);
    CHECK(client.have() == pair.shadow.guest->history() && pair.shadow.pair->status().live);
    // What left the primary is how the shadow's history begins, what left the shadow is how it ends, and
    // nothing is missing in between. Frames that left shortly before may leave again.
    const std::string &left = pair.primary_wire.stream, &left_later = pair.shadow_wire.stream;
    const std::string& frames = pair.shadow.guest->frames();
    CHECK(frames.starts_with(left) && frames.ends_with(left_later));
    CHECK(left.size() + left_later.size() >= frames.size());
    if (uint64_t live_us = pair.shadow.time_of(PairNotice::kLive)) pauses.push_back(live_us - killed_us);
  }
  std::sort(pauses.begin(), pauses.end());
  CHECK(pauses.size() > 100);
  printf("# %zu takeovers, stop to live: median %llu us, worst %llu us\n", pauses.size(),
         static_cast<unsigned long long>(pauses[pauses.size() / 2]),
         static_cast<unsigned long long>(pauses.back()));
}

TEST(the_shadow_dies_and_the_primary_goes_on_alone) {
  for (int round = 0; round < 20; round++) {
    TestPair pair;
    std::string text = typed_text(500);
    TestClient client(pair.consoles(), text, 30);
    pair.start();
    size_t at = 1 + below(text.size() - 1);
    run_until(client, [&] { return client.echoed().size() >= at; });
    pair.shadow.kill();
    run_until(client, [&] { return client.ended(); });
    pair.primary.thread.join();
    CHECK(client.echoed() == text && client.have() == pair.primary.guest->history());
    CHECK(!pair.primary.failed && pair.primary.pair->status().live);
  }
}

TEST(a_cut_link_leaves_exactly_one) {
  int primaries = 0, shadows = 0;
  for (int round = 0; round < 40; round++) {
    bool silent = round % 4 == 3;
    TestPair pair(true, [&](PairOptions& o) {
      o.silence_ms = 150;
      o.heartbeat_ms = 10;
      o.arbiter = make_file_arbiter("/tmp");
    });
    std::string text = typed_text(400);
    TestClient client(pair.consoles(), text, 30);
    pair.start();
    size_t at = 1 + below(text.size() - 1);
    run_until(client, [&] { return client.echoed().size() >= at; });
    if (client.ended()) continue;
    (silent ? pair.relay->mute : pair.relay->cut) = true;
    run_until(client, [&] { return client.ended(); });
    bool primary_live = false, shadow_live = false;
    run_until(client, [&] {
      auto p = pair.primary.pair->status(), s = pair.shadow.pair->status();
      primary_live = p.live && p.generation == 2;
      shadow_live = s.live;
      return (primary_live && s.fenced) || (shadow_live && p.fenced) ||
             (p.generation == 1 && p.live && !s.live);
    });
    if (!primary_live && !shadow_live) continue;  // it had ended before it noticed
    CHECK(primary_live != shadow_live);
    Side& winner = primary_live ? pair.primary : pair.shadow;
    Side& loser = primary_live ? pair.shadow : pair.primary;
    winner.thread.join();
    loser.thread.join();
    CHECK(!winner.failed && !loser.failed);
    CHECK(client.echoed() == text && client.have() == winner.guest->history());
    run_until(client, [&] { return loser.time_of(PairNotice::kFenced) != 0; });
    (primary_live ? primaries : shadows)++;
    ::unlink(("/tmp/" + pair.options.pair_id + ".g1").c_str());
    ::unlink(("/tmp/" + pair.options.pair_id + ".g2").c_str());
    ::unlink(("/tmp/" + pair.options.pair_id + ".armed2").c_str());
  }
  printf("# won: %d primaries, %d shadows\n", primaries, shadows);
  CHECK(primaries + shadows > 20);
}

class MoodyArbiter : public Arbiter {
 public:
  std::atomic<bool> away{false};
  std::atomic<int> lost_answers{0};
  std::atomic<int> arms_after_ms{0};
  bool arm(const std::string& p, uint64_t g, const std::string& s) override {
    std::this_thread::sleep_for(std::chrono::milliseconds(arms_after_ms));
    return !away && inner_->arm(p, g, s);
  }
  Claim claim(const std::string& p, uint64_t g, const std::string& c) override {
    if (away) return Claim::kUnreachable;
    Claim answer = inner_->claim(p, g, c);
    return g > 1 && lost_answers-- > 0 ? Claim::kUnreachable : answer;
  }

 private:
  std::shared_ptr<Arbiter> inner_ = make_memory_arbiter("moody");
};

TEST(without_the_arbiter_nobody_speaks_until_it_is_back) {
  auto arbiter = std::make_shared<MoodyArbiter>();
  TestPair pair(false, [&](PairOptions& o) { o.arbiter = arbiter; });
  std::string text = typed_text(2000);
  TestClient client(pair.consoles(), text, 20);
  pair.start();
  run_until(client, [&] { return client.have_bytes() > 500; });
  arbiter->away = true;
  // While the link is up, the arbiter does not matter.
  size_t before = client.have_bytes();
  run_until(client, [&] { return client.have_bytes() > before + 500; });
  pair.primary.kill();
  run_until(client, [&] { return pair.shadow.time_of(PairNotice::kArbiterUnreachable) != 0; });
  for (int i = 0; i < 10; i++) client.step(10);  // what the primary had sent before it died
  before = client.have_bytes();
  for (int i = 0; i < 10; i++) client.step(10);
  CHECK(client.have_bytes() == before && !pair.shadow.pair->status().live);
  arbiter->lost_answers = 1;  // it will have won, and must read that back
  arbiter->away = false;
  run_until(client, [&] { return client.ended(); });
  pair.shadow.thread.join();
  CHECK(client.echoed() == text && client.have() == pair.shadow.guest->history());
}

// The primary's thread asks the arbiter, and says nothing meanwhile: its shadow waits for longer than it
// would stand by a silent primary.
TEST(a_shadow_is_patient_until_it_stands_by) {
  auto arbiter = std::make_shared<MoodyArbiter>();
  arbiter->arms_after_ms = 700;
  TestPair pair(false, [&](PairOptions& o) {
    o.arbiter = arbiter;
    o.silence_ms = 150;
    o.heartbeat_ms = 10;
  });
  std::string text = typed_text(500);
  TestClient client(pair.consoles(), text, 30);
  pair.start();
  run_until(client, [&] { return pair.shadow.time_of(PairNotice::kArmed) != 0; });
  CHECK(pair.shadow.time_of(PairNotice::kSuspected) == 0);
  arbiter->arms_after_ms = 0;
  pair.primary.kill();
  run_until(client, [&] { return client.ended(); });
  pair.shadow.thread.join();
  CHECK(client.echoed() == text && client.have() == pair.shadow.guest->history());
}

TEST(a_primary_says_that_it_lost_a_shadow_that_never_stood_by) {
  TestPair pair;
  TestClient client(pair.consoles(), "", 20);
  pair.shadow.kill();
  run_until(client, [&] { return pair.primary.time_of(PairNotice::kJoinLost) != 0; });
  CHECK(pair.primary.time_of(PairNotice::kSuspected) == 0);
}

TEST(an_end_is_told_when_the_shadow_knows_of_it_or_cannot_go_on) {
  auto arbiter = std::make_shared<MoodyArbiter>();
  TestPair pair(false, [&](PairOptions& o) { o.arbiter = arbiter; });
  Pair& primary = *pair.primary.pair;
  TestClient client(pair.consoles(), "", 20);
  pair.shadow.start(false);
  CHECK(primary.wait_protected());
  arbiter->away = true;
  pair.shadow.kill();
  std::jthread guest([&] {
    primary.frame(Bytes(10), 1);  // what makes the program end, without another word
    primary.finish({0, 0, EndReason::kExited, 0}, 20'000);
  });
  run_until(client, [&] { return pair.primary.time_of(PairNotice::kArbiterUnreachable) != 0; });
  for (int i = 0; i < 20; i++) client.step(10);
  CHECK(!client.ended());
  arbiter->away = false;
  run_until(client, [&] { return client.ended(); });
}

TEST(a_slow_shadow_slows_the_primary_and_is_not_suspected) {
  TestPair pair(false, [](PairOptions& o) {
    o.lag_bytes_max = 2000;
    o.silence_ms = 300;
    o.heartbeat_ms = 20;
  });
  std::string text = typed_text(20'000);
  TestClient client(pair.consoles(), text, 200);
  pair.shadow.start(false);
  pair.shadow.guest->execute_delay_us = 3000;
  pair.primary.start(true);
  run_until(client, [&] { return pair.primary.time_of(PairNotice::kSlowed) != 0; });
  uint64_t worst = 0;
  for (int i = 0; i < 50; i++) {
    client.step(10);
    auto s = pair.primary.pair->status();
    worst = std::max(worst, s.lsn_sent - s.lsn_executed);
  }
  printf("# at most %llu events behind\n", static_cast<unsigned long long>(worst));
  CHECK(pair.primary.pair->status().is_protected && worst > 10 && worst < 300);
  pair.shadow.guest->execute_delay_us = 0;
  run_until(client, [&] { return client.ended(); });
  CHECK(client.echoed() == text);
}

TEST(a_shadow_that_does_not_get_on_is_given_up) {
  TestPair pair(false, [](PairOptions& o) {
    o.drop_ms = 700;
    o.heartbeat_ms = 20;
  });
  std::string text = typed_text(3'000'000);
  TestClient client(pair.consoles(), text, 50);
  pair.shadow.start(false);
  pair.primary.start(true);
  run_until(client, [&] { return client.have_bytes() > 500; });
  CHECK(pair.primary.pair->status().is_protected);
  pair.shadow.guest->execute_delay_us = 950'000;  // and its pair lives, and says so
  run_until(client, [&] { return pair.primary.time_of(PairNotice::kDropped) != 0; });
  CHECK(pair.primary.time_of(PairNotice::kSlowed) != 0);
  run_until(client, [&] { return pair.primary.time_of(PairNotice::kAlone) != 0; });
  const size_t before = client.have_bytes();
  run_until(client, [&] { return client.have_bytes() > before + 500; });
  run_until(client, [&] { return pair.shadow.time_of(PairNotice::kFenced) != 0; });
}

TEST(a_console_that_nobody_reads_stops_the_guest_and_a_new_client_frees_it) {
  TestPair pair(false, [](PairOptions& o) { o.output_bytes_max = 4000; });
  std::string text = typed_text(20'000);
  pair.start();
  {
    TestClient deaf(pair.consoles(), text, 64);
    deaf.acknowledges = false;
    run_until(deaf, [&] { return pair.primary.pair->status().output_bytes_held > 3900; });
    for (int i = 0; i < 20; i++) deaf.step(10);
    CHECK(pair.primary.pair->status().output_bytes_held <= 4000);
    CHECK(deaf.have_bytes() < 4200);
  }
  TestClient client(pair.consoles(), text, 64);
  run_until(client, [&] { return client.have_bytes() > 20'000; });
  pair.primary.kill();
  run_until(client, [&] { return client.ended(); });
  CHECK(client.echoed() == text);
}

TEST(a_diverged_shadow_never_claims_and_the_primary_goes_on) {
  TestPair pair;
  std::string text = typed_text(600);
  TestClient client(pair.consoles(), text, 30);
  pair.start();
  run_until(client, [&] { return client.echoed().size() > 200; });
  pair.shadow.pair->diverged("page 7");
  pair.shadow.pair->settle_notices();
  // It may be closed now: the primary has heard.
  CHECK(!pair.primary.pair->status().is_protected);
  run_until(client, [&] { return client.ended(); });
  CHECK(client.echoed() == text && client.have() == pair.primary.guest->history());
  CHECK(pair.primary.time_of(PairNotice::kDiverged) && pair.primary.time_of(PairNotice::kAlone));
  CHECK(pair.shadow.time_of(PairNotice::kClaiming) == 0 && pair.shadow.pair->status().fenced);
}

TEST(without_a_shadow_output_leaves_at_once_and_a_late_shadow_is_refused) {
  PairOptions o;
  o.pair_id = "solo" + std::to_string(random()());
  o.link_address = "tcp:127.0.0.1:0";
  o.console_address = "tcp:127.0.0.1:0";
  o.arbiter = make_memory_arbiter("test");
  Side primary;
  primary.pair = Pair::primary(o, {1, 2, 3}, primary.inbox, primary.listener());
  auto status = primary.pair->status();
  CHECK(status.link_address != o.link_address && status.live && !status.is_protected);
  std::string text = typed_text(300);
  TestClient client({status.console_address}, text, 20);
  primary.start(true, /*waits=*/false);
  run_until(client, [&] { return client.have_bytes() > 100; });
  Inbox inbox;
  Bytes header;
  PairOptions so = o;
  so.pair_id.clear();
  so.link_address = status.link_address;
  CHECK(failure_code([&] { Pair::shadow(so, inbox, {}, {}, 1000, &header); }) == "ERR_LOCKSTEP_LINK_REFUSED");
  run_until(client, [&] { return client.ended(); });
  CHECK(client.echoed() == text);
  PairOptions again = o;
  CHECK(failure_code([&] { Pair::primary(again, {}, inbox, {}); }) == "ERR_LOCKSTEP_PAIR_EXISTS");
  primary.kill();
  CHECK(failure_code([&] { Pair::shadow(so, inbox, {}, {}, 50, &header); }) ==
        "ERR_LOCKSTEP_LINK_UNREACHABLE");
}

TEST(a_shadow_that_joins_while_the_guest_starts_is_armed_once_it_has_all_that_left) {
  for (int round = 0; round < 20; round++) {
    TestPair pair;
    std::string text = typed_text(300);
    TestClient client(pair.consoles(), text, 20);
    pair.primary.start(true, /*waits=*/false);
    size_t at = below(300);
    run_until(client, [&] { return client.have_bytes() >= at; });
    pair.shadow.start(false);
    run_until(client, [&] { return pair.primary.pair->status().is_protected || client.ended(); });
    pair.primary.kill();
    run_until(client, [&] { return client.ended(); });
    CHECK(client.echoed() == text);
  }
}

TEST(stop_frees_every_blocked_caller) {
  Side primary;
  TestPair pair;
  // A primary that waits for a shadow which never gets ready, and a shadow that waits for records.
  pair.primary.start(true);
  pair.shadow.start(false);
  PairOptions o = pair.options;
  o.pair_id += "x";
  o.link_address = "unix:" + fresh("link");
  o.console_address = "unix:" + fresh("console");
  primary.pair = Pair::primary(o, {}, primary.inbox, {});
  std::thread waiting([&] { CHECK(!primary.pair->wait_protected()); });
  uint64_t begin = clock_us();
  primary.pair->stop();
  primary.pair->stop();
  waiting.join();
  pair.shadow.kill();
  pair.primary.kill();
  CHECK(clock_us() - begin < 1'000'000);
}

}  // namespace
}  // namespace lockstep::test
