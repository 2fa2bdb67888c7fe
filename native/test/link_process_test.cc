// Pairs in processes of their own: kill -9 and SIGSTOP, which leave a side no chance to behave. The parent is
// the console client; it has no threads, so that it may fork.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "test/link_world.h"

namespace lockstep::test {
namespace {

// What a child tells its parent, through a pipe: when things happened, and where the story ended.
struct Report {
  uint8_t notice;
  uint64_t time_us;
};
constexpr uint8_t kRunning = 200;  // the guest is about to start
constexpr uint8_t kOver = 201;     // its history is in the file

struct World {
  std::string base = "/tmp/lockstep-proc-" + std::to_string(getpid()) + "-" + std::to_string(random()());
  PairOptions options;
  explicit World(bool tcp = false) {
    options.pair_id = "pair";
    // The shadow must know the port before anybody listens there.
    options.link_address = tcp ? Listener("tcp:127.0.0.1:0").address() : "unix:" + base + "/link";
    options.silence_ms = 400;
    options.heartbeat_ms = 20;
    ::mkdir(base.c_str(), 0700);
    ::mkdir((base + "/arbiter").c_str(), 0700);
    options.arbiter = make_file_arbiter(base + "/arbiter");
  }
  ~World() { (void)!system(("rm -rf " + base).c_str()); }
  std::string console(bool is_primary) { return "unix:" + base + (is_primary ? "/console-p" : "/console-s"); }
  std::string history_path(bool is_primary) { return base + (is_primary ? "/history-p" : "/history-s"); }
};

struct Child {
  pid_t pid = -1;
  int reports = -1;
  std::vector<Report> got;
  std::string history;

  Child(World& world, bool is_primary) : history(world.history_path(is_primary)) {
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) throw std::runtime_error("pipe");
    uint64_t seed = random()();
    pid = fork();
    if (pid == 0) {
      close(fds[0]);
      main(world, is_primary, seed, fds[1]);
    }
    close(fds[1]);
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    reports = fds[0];
  }
  ~Child() {
    end();
    close(reports);
  }
  void end() {
    if (pid < 0) return;
    kill(pid, SIGCONT);
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    pid = -1;
  }
  uint64_t time_of(uint8_t notice) {
    Report r;
    while (::read(reports, &r, sizeof r) == sizeof r) got.push_back(r);
    for (const Report& g : got) {
      if (g.notice == notice) return g.time_us;
    }
    return 0;
  }
  uint64_t time_of(PairNotice notice) { return time_of(static_cast<uint8_t>(notice)); }
  Streams read_history() {
    Streams streams;
    std::ifstream file(history);
    for (auto& s : streams) std::getline(file, s);
    return streams;
  }

  [[noreturn]] static void main(World& world, bool is_primary, uint64_t seed, int out) {
    try {
      PairOptions o = world.options;
      o.console_address = world.console(is_primary);
      Inbox inbox;
      std::atomic<FakeGuest*> guest{nullptr};
      auto report = [&](uint8_t notice, uint64_t time_us) {
        Report r{notice, time_us};
        (void)!::write(out, &r, sizeof r);
      };
      PairListener listener = [&](const PairEvent& event) {
        report(static_cast<uint8_t>(event.notice), event.time_us);
        if (event.notice == PairNotice::kFenced && guest) guest.load()->quit();
      };
      Bytes header;
      auto pair = is_primary ? Pair::primary(o, {1, 2, 3}, inbox, listener)
                             : Pair::shadow(o, inbox, listener, {}, 10'000, &header);
      FakeGuest machine(*pair, inbox, is_primary, seed);
      guest = &machine;
      report(kRunning, clock_us());
      if (!is_primary || pair->wait_protected()) machine.run();
      std::ofstream file(is_primary ? world.history_path(true) : world.history_path(false));
      for (const auto& s : machine.history()) file << s << "\n";
      file.close();
      report(kOver, clock_us());
      for (;;) pause();
    } catch (const std::exception& error) {
      printf("# a child failed: %s\n", error.what());
      fflush(stdout);
    }
    _exit(1);
  }
};

void run_until(TestClient& client, const std::function<bool()>& until) {
  uint64_t deadline = clock_us() + 30'000'000;
  while (!until()) {
    if (clock_us() > deadline) throw std::runtime_error("it took too long");
    client.step(5);
  }
}

void print_times(const char* what, std::vector<uint64_t> us) {
  if (us.empty()) return;
  std::sort(us.begin(), us.end());
  printf("# %s: median %llu us, p99 %llu us, worst %llu us (%zu times)\n", what,
         static_cast<unsigned long long>(us[us.size() / 2]),
         static_cast<unsigned long long>(us[us.size() * 99 / 100]),
         static_cast<unsigned long long>(us.back()), us.size());
}

void kill_primaries(bool tcp) {
  std::vector<uint64_t> detection, claim, live, output;
  for (int round = 0; round < 60; round++) {
    World world(tcp);
    Child primary(world, true), shadow(world, false);
    std::string text = typed_text(300);
    TestClient client({world.console(true), world.console(false)}, text, 1 + below(60));
    size_t at = 1 + below(text.size() - 1);
    run_until(client, [&] { return client.echoed().size() >= at; });
    uint64_t killed_us = clock_us();
    primary.end();
    run_until(client, [&] { return client.ended(); });
    CHECK(client.echoed() == text);
    if (client.generation() == 1) continue;
    run_until(client, [&] { return shadow.time_of(kOver) != 0; });
    CHECK(client.have() == shadow.read_history());
    uint64_t suspected = shadow.time_of(PairNotice::kSuspected), won = shadow.time_of(PairNotice::kClaimWon);
    uint64_t went_live = shadow.time_of(PairNotice::kLive), first = shadow.time_of(PairNotice::kFirstOutput);
    if (went_live == 0) continue;
    detection.push_back(suspected - killed_us);
    claim.push_back(won - suspected);
    live.push_back(went_live - killed_us);
    if (first > killed_us) output.push_back(first - killed_us);
  }
  CHECK(live.size() > 30);
  print_times("kill -9 to detection", detection);
  print_times("claim at the file arbiter", claim);
  print_times("kill -9 to live", live);
  print_times("kill -9 to first output", output);
}

TEST(kill_9_of_the_primary) { kill_primaries(false); }
TEST(kill_9_of_the_primary_at_a_tcp_link) { kill_primaries(true); }

void kill_shadows(bool tcp) {
  std::vector<uint64_t> alone;
  for (int round = 0; round < 20; round++) {
    World world(tcp);
    Child primary(world, true), shadow(world, false);
    std::string text = typed_text(300);
    TestClient client({world.console(true), world.console(false)}, text, 1 + below(60));
    size_t at = 1 + below(text.size() - 1);
    run_until(client, [&] { return client.echoed().size() >= at; });
    const uint64_t killed_us = clock_us();
    shadow.end();
    run_until(client, [&] { return client.ended() && primary.time_of(kOver) != 0; });
    CHECK(client.echoed() == text && client.have() == primary.read_history());
    if (const uint64_t at_us = primary.time_of(PairNotice::kAlone)) alone.push_back(at_us - killed_us);
  }
  print_times("kill -9 of a shadow to going on alone", alone);
}

TEST(kill_9_of_the_shadow) { kill_shadows(false); }
TEST(kill_9_of_the_shadow_at_a_tcp_link) { kill_shadows(true); }

// Whoever is stopped past the limit loses, wakes, and finds itself fenced; nothing it ever said is missing.
void stop_one(bool stops_primary) {
  for (int round = 0; round < 5; round++) {
    World world;
    Child primary(world, true), shadow(world, false);
    Child& stopped = stops_primary ? primary : shadow;
    Child& winner = stops_primary ? shadow : primary;
    std::string text = typed_text(600);
    TestClient client({world.console(true), world.console(false)}, text, 20);
    size_t at = 1 + below(200);
    client.types_until = 300;
    run_until(client, [&] { return client.echoed().size() >= at; });
    kill(stopped.pid, SIGSTOP);
    run_until(client, [&] { return winner.time_of(PairNotice::kClaimWon) != 0; });
    client.types_until = SIZE_MAX;
    run_until(client, [&] { return client.echoed().size() > 400; });
    kill(stopped.pid, SIGCONT);
    run_until(client, [&] { return stopped.time_of(PairNotice::kFenced) != 0; });
    run_until(client, [&] { return client.ended() && winner.time_of(kOver) != 0; });
    CHECK(client.echoed() == text && client.have() == winner.read_history());
    CHECK(client.generation() == (stops_primary ? 2u : 1u) && stopped.time_of(PairNotice::kClaimWon) == 0);
  }
}

TEST(a_stopped_primary_is_fenced_when_it_wakes) { stop_one(true); }
TEST(a_stopped_shadow_is_fenced_when_it_wakes) { stop_one(false); }

TEST(a_short_stop_changes_nothing) {
  for (bool stops_primary : {true, false}) {
    World world;
    Child primary(world, true), shadow(world, false);
    std::string text = typed_text(600);
    TestClient client({world.console(true), world.console(false)}, text, 20);
    for (size_t at : {100, 200, 300}) {
      run_until(client, [&] { return client.echoed().size() >= at; });
      pid_t pid = stops_primary ? primary.pid : shadow.pid;
      kill(pid, SIGSTOP);
      for (int i = 0; i < 20; i++) client.step(5);
      kill(pid, SIGCONT);
    }
    run_until(client, [&] { return client.ended() && primary.time_of(kOver) != 0; });
    CHECK(client.echoed() == text);
    CHECK(primary.time_of(PairNotice::kSuspected) == 0 && shadow.time_of(PairNotice::kClaiming) == 0);
  }
}

TEST(both_stopped_long_and_woken_together_go_on) {
  // As when their host is suspended: each finds its own clock stalled, and gives the other time.
  for (int round = 0; round < 4; round++) {
    World world;
    Child primary(world, true), shadow(world, false);
    std::string text = typed_text(400);
    TestClient client({world.console(true), world.console(false)}, text, 20);
    run_until(client, [&] { return client.echoed().size() >= 100; });
    for (pid_t pid : {primary.pid, shadow.pid}) kill(pid, SIGSTOP);
    for (int i = 0; i < 120; i++) client.step(5);
    for (pid_t pid : {shadow.pid, primary.pid}) kill(pid, SIGCONT);
    run_until(client, [&] { return client.ended() && primary.time_of(kOver) != 0; });
    CHECK(client.echoed() == text && client.generation() == 1);
    CHECK(primary.time_of(PairNotice::kSuspected) == 0 && shadow.time_of(PairNotice::kClaiming) == 0);
  }
}

}  // namespace
}  // namespace lockstep::test
