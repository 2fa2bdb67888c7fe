// Shadows that join running machines: real machines on the real /dev/kvm, one console client that sees every
// byte once, and every log replayed from where it starts.
#include <unistd.h>

#include <thread>

#include "test/bare_guest.h"
#include "test/link_world.h"

namespace lockstep::test {
namespace {

std::string fresh(const std::string& what) {
  static std::atomic<int> number{0};
  return "/tmp/lockstep-join-" + std::to_string(getpid()) + "-" + std::to_string(number++) + "-" + what;
}

// Polls its 16550, counts in memory, and says what it hears; 'q' is the end, status 7.
const Bytes kEcho{0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xf8,  // wait: in $0x3fd; test $1; jz wait
                  0xba, 0xf8, 0x03, 0xec, 0x3c, 0x71, 0x74, 0x07,  // in $0x3f8; cmp $'q'; je off
                  0xfe, 0x06, 0x00, 0x90, 0xee, 0xeb, 0xe9,        // incb 0x9000; out; jmp wait
                  0xba, 0x04, 0x06, 0xb0, 0x07, 0xee, 0xf4};       // off: out 7 to 0x604

class Watcher : public Collector {
 public:
  void on_pair(const PairEvent& event) override {
    std::lock_guard lock(mutex_);
    notices_.push_back(event);
  }
  const PairEvent* saw(PairNotice notice) {
    std::lock_guard lock(mutex_);
    for (const PairEvent& event : notices_)
      if (event.notice == notice) return &event;
    return nullptr;
  }

 private:
  std::mutex mutex_;
  std::deque<PairEvent> notices_;
};

struct Side {
  std::string console = "unix:" + fresh("console"), log = fresh("log");
  Watcher watcher;
  std::unique_ptr<Machine> machine;

  void start(MachineConfig config, const std::string& link, const std::string& arbiter) {
    config.pair.pair_id = config.mode == Mode::kPrimary ? random_text() : "";
    config.pair.link_address = link;
    config.pair.console_address = console;
    config.pair.console_input = InputKind::kSerial;
    config.pair.arbiter = make_memory_arbiter(arbiter);
    config.pair.heartbeat_ms = 20;
    config.pair.alone = true;
    config.log = log;
    machine = std::make_unique<Machine>(std::move(config), watcher);
    machine->start();
  }
  static std::string random_text() { return "pair" + std::to_string(random()()); }
  void kill() {
    if (machine) machine->stop();
    machine.reset();
  }
  ~Side() {
    kill();
    unlink(log.c_str());
  }
};

MachineConfig primary_of(const Bytes& code, uint64_t digest_every) {
  MachineConfig config;
  config.mode = Mode::kPrimary;
  config.image = flat_image(StartMode::kReal, 0x8000, code);
  config.options.digest_every = digest_every;
  return config;
}

MachineConfig shadow() {
  MachineConfig config;
  config.mode = Mode::kShadow;
  return config;
}

void run_until(TestClient& client, const std::function<bool()>& until) {
  const uint64_t deadline = clock_us() + 60'000'000;
  while (!until()) {
    if (clock_us() > deadline) throw std::runtime_error("it took too long");
    client.step(5);
  }
}

Machine::Stats replay(const std::string& log, MachineEnd* end) {
  MachineConfig config;
  config.mode = Mode::kReplay;
  config.log = log;
  config.kicks_per_second = 1000;
  config.kick_seed = random()();
  Collector collector;
  Machine machine(std::move(config), collector);
  machine.start();
  *end = collector.wait();
  machine.join();
  return machine.stats();
}

std::string letters(size_t bytes) {
  std::string text;
  for (size_t i = 0; i < bytes; i++) text += static_cast<char>('A' + random()() % 26);
  return text;
}

// Kills the live side `kills` times, each time after a new shadow has joined and is armed.
void chain(uint64_t digest_every, size_t kills) {
  const std::string link = "unix:" + fresh("link"), arbiter = fresh("arbiter");
  const std::string text = letters(200 * (kills + 2)) + "q";
  std::vector<std::unique_ptr<Side>> sides;
  std::vector<std::string> consoles;
  for (size_t i = 0; i < kills + 2; i++) {
    sides.push_back(std::make_unique<Side>());
    consoles.push_back(sides.back()->console);
  }
  sides[0]->start(primary_of(kEcho, digest_every), link, arbiter);
  TestClient client(consoles, text, 50);
  for (size_t i = 0; i <= kills; i++) {
    client.types_until = 200 * (i + 1);
    const size_t at = 200 * i + 1 + below(100);
    run_until(client, [&] { return client.have()[4].size() >= at; });
    Side& joining = *sides[i + 1];
    joining.start(shadow(), link, arbiter);
    run_until(client, [&] { return joining.watcher.saw(PairNotice::kArmed) != nullptr; });
    const size_t then = at + below(100);
    run_until(client, [&] { return client.have()[4].size() >= then; });
    if (i == kills) break;
    sides[i]->kill();
    run_until(client, [&] { return joining.watcher.saw(PairNotice::kLive) != nullptr; });
    CHECK(joining.machine->pair_status()->generation == i + 2);
  }
  client.types_until = SIZE_MAX;
  run_until(client, [&] { return client.ended(); });
  CHECK(client.have()[4] == text.substr(0, text.size() - 1));
  CHECK(client.generation() == kills + 1);
  for (size_t i = kills; i < kills + 2; i++) CHECK(sides[i]->watcher.wait().status == 7);
  for (auto& side : sides) side->kill();
  for (size_t i = 0; i < sides.size(); i++) {
    MachineEnd end;
    const Machine::Stats stats = replay(sides[i]->log, &end);
    CHECK(stats.digests_checked > 0);
    CHECK(i < kills ? end.reason != "diverged" : end.reason == "exited" && end.status == 7);
  }
}

TEST(machine_join_one_shadow) { chain(0, 0); }
TEST(machine_join_a_chain_of_takeovers) { chain(0, 4); }
TEST(machine_join_with_a_digest_at_every_event) { chain(1, 2); }

}  // namespace
}  // namespace lockstep::test
