// Bare guests on the real /dev/kvm that are taken apart at random moments: each goes on to the same end.
#include <unistd.h>

#include "test/bare_guest.h"
#include "test/check.h"

namespace lockstep::test {
namespace {

std::string fresh(const std::string& what) {
  static int number = 0;
  return "/tmp/lockstep-" + std::to_string(getpid()) + "-" + std::to_string(number++) + "-" + what;
}

struct TemporaryFile {
  std::string path = fresh("snapshot");
  ~TemporaryFile() { unlink(path.c_str()); }
};

// An interrupt handler at vector 0x20 that prints '!' and counts in %bl; main arms the timer, halts, stores
// the count, and ends after 200.
Bytes ticking() {
  Bytes code{0xc7, 0x06, 0x80, 0x00, 0x80, 0x80, 0xc7, 0x06, 0x82, 0x00, 0x00, 0x00, 0x31, 0xdb, 0xfb};
  // 1: mov $0x70c,%dx; mov $500,%eax; out %eax,(%dx); hlt; mov %bl,0x9000(%bx); cmp $200,%bl; jne 1b; out 7
  const Bytes loop{0xba, 0x0c, 0x07, 0x66, 0xb8, 0xf4, 0x01, 0x00, 0x00, 0x66, 0xef, 0xf4, 0x88, 0x9f,
                   0x00, 0x90, 0x80, 0xfb, 0xc8, 0x75, 0xeb, 0xba, 0x04, 0x06, 0xb0, 0x07, 0xee, 0xf4};
  code.insert(code.end(), loop.begin(), loop.end());
  code.resize(0x80);
  const Bytes handler{0xba, 0xf8, 0x03, 0xb0, 0x21, 0xee, 0xfe, 0xc3, 0xcf};
  code.insert(code.end(), handler.begin(), handler.end());
  return code;
}

MachineConfig fixed(Mode mode) {
  MachineConfig config;
  config.mode = mode;
  config.options.fixed_time_us = 1'000'000;
  config.options.digest_every = mode == Mode::kRun ? 0 : 1;
  return config;
}

struct Ended {
  MachineEnd end;
  Digest digest;
  uint64_t digests_checked = 0;
};

Ended finish(Machine& machine, Collector& collector) {
  Ended ended{collector.wait(), {}, 0};
  machine.join();
  ended.digest = machine.digest();
  ended.digests_checked = machine.stats().digests_checked;
  return ended;
}

Ended run(MachineConfig config) {
  Collector collector;
  Machine machine(std::move(config), collector);
  machine.start();
  return finish(machine, collector);
}

bool same(const Digest& a, const Digest& b) {
  return a.registers == b.registers && a.devices == b.devices && a.memory == b.memory &&
         a.channels == b.channels;
}

// Records what goes on from `start`, and replays it.
void check_recorded(MachineConfig start, const Ended& expected) {
  const TemporaryFile log;
  start.mode = Mode::kRecord;
  start.log = log.path;
  start.options.digest_every = 1;
  MachineConfig replay;
  replay.mode = Mode::kReplay;
  replay.log = log.path;
  replay.image_path = start.image_path;
  replay.kicks_per_second = 2000;
  replay.kick_seed = random()();
  CHECK(same(run(std::move(start)).digest, expected.digest));
  const Ended replayed = run(std::move(replay));
  CHECK(replayed.end.status == expected.end.status && same(replayed.digest, expected.digest));
  CHECK(replayed.digests_checked > 0);
}

TEST(snapshot_goes_on_to_the_same_end) {
  MachineConfig whole = fixed(Mode::kRun);
  whole.image = flat_image(StartMode::kReal, 0x8000, ticking());
  const Ended expected = run(whole);
  CHECK(expected.end.status == 7 && expected.digest.channels[4].bytes == 200);
  int taken = 0;
  for (int round = 0; round < 100 && taken < 6; round++) {
    const TemporaryFile file;
    MachineConfig first = whole;
    first.mode = round % 2 ? Mode::kRun : Mode::kRecord;
    first.options.digest_every = round % 2;
    const TemporaryFile log;
    if (first.mode == Mode::kRecord) first.log = log.path;
    std::shared_ptr<Fork> fork;
    {
      Collector collector;
      Machine machine(std::move(first), collector);
      machine.start();
      usleep(static_cast<useconds_t>(below(1500)));
      const std::string code = failure_code([&] {
        machine.snapshot(file.path, false);
        fork = machine.fork();
      });
      CHECK(code.empty() || code == "ERR_LOCKSTEP_STATE");
      CHECK(same(finish(machine, collector).digest, expected.digest));
    }
    if (!fork) continue;  // it was over before
    taken++;
    MachineConfig restored = fixed(Mode::kRun);
    restored.image_path = file.path;
    CHECK(same(run(restored).digest, expected.digest));
    check_recorded(restored, expected);
    MachineConfig forked = fixed(Mode::kRun);
    forked.fork = fork;
    CHECK(same(run(forked).digest, expected.digest));
  }
  CHECK(taken > 0);
}

TEST(snapshot_of_a_guest_that_waits_for_ever) {
  // vector 0x30 at 0xc0: handler powers off; main: sti; 1: hlt; jmp 1b
  Bytes code{0xc7, 0x06, 0xc0, 0x00, 0x80, 0x80, 0xc7, 0x06, 0xc2, 0x00, 0x00, 0x00, 0xfb, 0xf4, 0xeb, 0xfd};
  code.resize(0x80);
  const Bytes power_off{0xba, 0x04, 0x06, 0xb0, 0x07, 0xee, 0xf4};
  code.insert(code.end(), power_off.begin(), power_off.end());
  MachineConfig config;
  config.image = flat_image(StartMode::kReal, 0x8000, code);
  const TemporaryFile file, log;
  std::shared_ptr<Fork> fork;
  Digest digest;
  {
    Collector collector;
    Machine machine(std::move(config), collector);
    machine.start();
    usleep(20'000);
    digest = machine.snapshot(file.path, false).digest;
    fork = machine.fork();
    machine.stop();
    CHECK(collector.wait().reason == "closed");
  }
  const auto wake = [&](MachineConfig start) {
    Collector collector;
    Machine machine(std::move(start), collector);
    CHECK(same(machine.digest(), digest));
    machine.start();
    machine.inbox().push({InputKind::kInterrupt, 0, {0x30}});
    CHECK(collector.wait().status == 7);
  };
  MachineConfig recorded;
  recorded.mode = Mode::kRecord;
  recorded.image_path = file.path;
  recorded.log = log.path;
  wake(std::move(recorded));
  MachineConfig replay;
  replay.mode = Mode::kReplay;
  replay.image_path = file.path;
  replay.log = log.path;
  CHECK(run(std::move(replay)).end.status == 7);
  MachineConfig forked;
  forked.fork = fork;
  wake(std::move(forked));
}

}  // namespace
}  // namespace lockstep::test
