// Bare guests on the real /dev/kvm: every kind of access, interrupts, ends; recorded and replayed.
#include "machine.h"

#include <fcntl.h>

#include "test/bare_guest.h"
#include "test/check.h"

using namespace lockstep;
using namespace lockstep::test;

namespace {

struct Outcome {
  MachineEnd end;
  Machine::Stats stats;
  std::string output;
};

std::string temporary(const char* name) { return "/tmp/lockstep-" + std::to_string(getpid()) + "-" + name; }

std::string read_file(const std::string& path) {
  std::string text(1 << 16, '\0');
  Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  ssize_t got = read(fd.get(), text.data(), text.size());
  text.resize(got > 0 ? got : 0);
  return text;
}

Outcome run(MachineConfig config, const std::string& input = "",
            std::function<void(Machine&)> meanwhile = {}) {
  std::string out = temporary("out"), in = temporary("in");
  Fd out_fd(open(out.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  Fd in_fd(open(in.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!input.empty()) {
    CHECK(write(in_fd.get(), input.data(), input.size()) == static_cast<ssize_t>(input.size()));
    lseek(in_fd.get(), 0, SEEK_SET);
    config.stdin_fd = in_fd.get();
  }
  config.stdout_fd = out_fd.get();
  Collector collector;
  Machine machine(std::move(config), collector);
  machine.start();
  if (meanwhile) meanwhile(machine);
  Outcome outcome;
  outcome.end = collector.wait();
  machine.join();
  outcome.stats = machine.stats();
  outcome.output = read_file(out);
  unlink(out.c_str());
  unlink(in.c_str());
  return outcome;
}

MachineConfig bare(Mode mode, StartMode start, const Bytes& code, uint64_t gpa = 0x8000) {
  MachineConfig config;
  config.mode = mode;
  config.image = flat_image(start, gpa, code);
  config.options.digest_every = 1;
  return config;
}

// Records the guest, then replays it several times under random kicks: every digest must match.
Outcome record_and_replay(MachineConfig config, const std::string& input = "",
                          std::function<void(Machine&)> meanwhile = {}) {
  std::string log = temporary("log");
  config.log = log;
  config.log_options.force = true;
  Outcome recorded = run(config, input, meanwhile);
  for (int i = 0; i < 5; i++) {
    MachineConfig replay;
    replay.mode = Mode::kReplay;
    replay.log = log;
    replay.kicks_per_second = 3000;
    replay.kick_seed = lockstep::test::random()();
    Outcome replayed = run(replay);
    CHECK(replayed.end.reason == recorded.end.reason);
    CHECK(replayed.end.status == recorded.end.status);
    CHECK(replayed.output == recorded.output);
    CHECK(replayed.stats.at.accesses_total == recorded.stats.at.accesses_total);
    CHECK(replayed.stats.digests_checked >= 2);
  }
  unlink(log.c_str());
  return recorded;
}

Outcome record_and_replay(StartMode start, const Bytes& code, const std::string& input = "",
                          std::function<void(Machine&)> meanwhile = {}) {
  return record_and_replay(bare(Mode::kRecord, start, code), input, meanwhile);
}

// mov $text,%dx-style snippets in 16-bit code.
Bytes print16(const std::string& text) {
  Bytes code{0xba, 0xf8, 0x03};  // mov $0x3f8,%dx
  for (char c : text) {
    code.push_back(0xb0);
    code.push_back(static_cast<uint8_t>(c));
    code.push_back(0xee);  // mov $c,%al; out %al,(%dx)
  }
  return code;
}

Bytes operator+(Bytes a, const Bytes& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

const Bytes kHalt{0xfa, 0xf4};                                      // cli; hlt
const Bytes kPowerOff16{0xba, 0x04, 0x06, 0xb0, 0x07, 0xee, 0xf4};  // out 7 to 0x604

}  // namespace

TEST(real_mode_prints_and_halts) {
  Outcome outcome = record_and_replay(StartMode::kReal, print16("hello\n") + kHalt);
  CHECK(outcome.output == "hello\n");
  CHECK(outcome.end.reason == "halted");
  CHECK(outcome.stats.at.accesses_total == 7);
}

TEST(power_off_has_a_status) {
  Outcome outcome = record_and_replay(StartMode::kReal, kPowerOff16);
  CHECK(outcome.end.reason == "exited");
  CHECK(outcome.end.status == 7);
}

TEST(string_output_counts_each_element) {
  // mov $0x8100,%si; mov $64,%cx; mov $0x3f8,%dx; cld; rep outsb; cli; hlt, and 64 letters at 0x8100
  Bytes code{0xbe, 0x00, 0x81, 0xb9, 0x40, 0x00, 0xba, 0xf8, 0x03, 0xfc, 0xf3, 0x6e, 0xfa, 0xf4};
  code.resize(0x100);
  for (int i = 0; i < 64; i++) code.push_back('A' + i % 26);
  Outcome outcome = record_and_replay(StartMode::kReal, code);
  CHECK(outcome.output.size() == 64);
  CHECK(outcome.stats.at.accesses_total == 65);
}

TEST(string_input_counts_each_element) {
  // 16 random bytes by rep insb from 0x720, printed by rep outsb
  Bytes code{0xbf, 0x00, 0x90, 0xb9, 0x10, 0x00, 0xba, 0x20, 0x07, 0xfc, 0xf3, 0x6c, 0xbe,
             0x00, 0x90, 0xb9, 0x10, 0x00, 0xba, 0xf8, 0x03, 0xf3, 0x6e, 0xfa, 0xf4};
  Outcome outcome = record_and_replay(StartMode::kReal, code);
  CHECK(outcome.output.size() == 16);
  CHECK(outcome.stats.at.accesses_total == 33);
}

TEST(input_is_echoed) {
  // 1: in 0x3fd; test $1; jz 1b; in 0x3f8; out; cmp $'\n'; jne 1b; cli; hlt
  Bytes code{0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xf8, 0xba, 0xf8,
             0x03, 0xec, 0xee, 0x3c, 0x0a, 0x75, 0xef, 0xfa, 0xf4};
  Outcome outcome = record_and_replay(StartMode::kReal, code, "around and back\n");
  CHECK(outcome.output == "around and back\n");
}

TEST(memory_mapped_access_in_long_mode) {
  // mov $0xd0000000,%ebx; movb $7,(%rbx); mov (%rbx),%al; mov $0x604,%dx; out %al,(%dx); hlt
  Bytes code{0xbb, 0x00, 0x00, 0x00, 0xd0, 0xc6, 0x03, 0x07, 0x8a, 0x03, 0x66, 0xba, 0x04, 0x06, 0xee, 0xf4};
  Outcome outcome = record_and_replay(StartMode::kLong, code);
  CHECK(outcome.end.reason == "exited");
  CHECK(outcome.end.status == 0xff);  // nothing is there
  CHECK(outcome.stats.at.accesses_total == 3);
}

// An interrupt handler at vector 0x20 that prints '!' and counts in %bl; main arms the timer, halts, and ends
// after three.
TEST(timer_interrupts_wake_a_halted_guest) {
  // movw $0x8080,0x80; movw $0,0x82; sti
  Bytes code{0xc7, 0x06, 0x80, 0x00, 0x80, 0x80, 0xc7, 0x06, 0x82, 0x00, 0x00, 0x00, 0x31, 0xdb, 0xfb};
  // 1: mov $0x70c,%dx; mov $500,%eax; out %eax,(%dx); hlt; cmp $3,%bl; jne 1b
  Bytes loop{0xba, 0x0c, 0x07, 0x66, 0xb8, 0xf4, 0x01, 0x00, 0x00,
             0x66, 0xef, 0xf4, 0x80, 0xfb, 0x03, 0x75, 0xef};
  code = code + loop + kPowerOff16;
  code.resize(0x80);
  code = code + Bytes{0xba, 0xf8, 0x03, 0xb0, 0x21, 0xee, 0xfe, 0xc3, 0xcf};  // print '!'; inc %bl; iret
  Outcome outcome = record_and_replay(StartMode::kReal, code);
  CHECK(outcome.output == "!!!");
  CHECK(outcome.end.status == 7);
  CHECK(outcome.stats.run.interrupts == 3);
}

TEST(interrupt_from_outside) {
  // vector 0x30 at 0xc0: handler powers off; main: sti; 1: hlt; jmp 1b
  Bytes code{0xc7, 0x06, 0xc0, 0x00, 0x80, 0x80, 0xc7, 0x06, 0xc2, 0x00, 0x00, 0x00, 0xfb, 0xf4, 0xeb, 0xfd};
  code.resize(0x80);
  code = code + kPowerOff16;
  Outcome outcome = record_and_replay(StartMode::kReal, code, "", [](Machine& machine) {
    machine.inbox().push({InputKind::kInterrupt, 0, {0x30}});
  });
  CHECK(outcome.end.status == 7);
}

TEST(triple_fault_is_an_end) {
  // lidt of an empty table, then int3... ud2 in long mode without an IDT
  Outcome outcome = record_and_replay(StartMode::kLong, Bytes{0x0f, 0x0b});
  CHECK(outcome.end.reason == "shutdown");
  CHECK(outcome.end.detail.find("triple fault") != std::string::npos);
}

TEST(closing_while_waiting_leaves_a_whole_log) {
  // sti; 1: hlt; jmp 1b: waits for ever
  Outcome outcome =
      record_and_replay(StartMode::kReal, Bytes{0xfb, 0xf4, 0xeb, 0xfd}, "", [](Machine& machine) {
        usleep(50'000);
        machine.stop();
      });
  CHECK(outcome.end.reason == "closed");
}

TEST(garbage_into_every_register_of_every_device) {
  for (int round = 0; round < 5; round++) {
    Bytes code;
    for (int i = 0; i < 400; i++) {
      const uint16_t bases[] = {0x3f8, 0x700, 0x720};
      uint16_t port = bases[below(3)] + below(16);
      uint8_t value = below(256);
      code = code + Bytes{0xba, static_cast<uint8_t>(port), static_cast<uint8_t>(port >> 8), 0xb0, value};
      const uint8_t kinds[] = {0xee, 0xef, 0xec, 0xed};  // out al, out ax, in al, in ax
      code.push_back(kinds[below(4)]);
    }
    Outcome outcome = record_and_replay(StartMode::kReal, code + kHalt);
    CHECK(outcome.end.reason == "halted");
  }
}

TEST(a_changed_page_is_a_divergence_that_is_named) {
  // Waits for input, then prints memory at 0x9000.
  Bytes code{0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xf8, 0xba,
             0xf8, 0x03, 0xec, 0xa0, 0x00, 0x90, 0xee, 0xfa, 0xf4};
  std::string log = temporary("log");
  MachineConfig config = bare(Mode::kRecord, StartMode::kReal, code);
  config.log = log;
  config.log_options.force = true;
  run(config, "x");
  MachineConfig replay;
  replay.mode = Mode::kReplay;
  replay.log = log;
  replay.stop_at_event = 1;
  Outcome outcome = run(replay, "", [](Machine& machine) {
    machine.control().post([&machine] {
      machine.memory().store<uint8_t>(0x9000, 'Z');
      machine.control().resume();
    });
  });
  unlink(log.c_str());
  CHECK(outcome.end.reason == "diverged");
  CHECK(outcome.end.divergence.has_value());
}

// Interrupts are closed for 2000 accesses, in which one arrives, and open in a loop without any. However
// often the vCPU is kicked out of that loop, the interrupt must wait for the access behind it.
TEST(an_interrupt_waits_for_a_position) {
  // movw $0x8080,0xc0; movw $0,0xc2; cli; mov $2000,%cx; 1: out %al,$0x80; loop 1b
  Bytes code{0xc7, 0x06, 0xc0, 0x00, 0x80, 0x80, 0xc7, 0x06, 0xc2, 0x00,
             0x00, 0x00, 0xfa, 0xb9, 0xd0, 0x07, 0xe6, 0x80, 0xe2, 0xfc};
  // sti; mov $200000,%ecx; 1: dec %ecx; jnz 1b; out %al,$0x80; nop
  code = code + Bytes{0xfb, 0x66, 0xb9, 0x40, 0x0d, 0x03, 0x00, 0x66, 0x49, 0x75, 0xfc, 0xe6, 0x80, 0x90} +
         kPowerOff16;
  code.resize(0x80);
  // mov $0x3f8,%dx; mov %cl,%al; out %al,(%dx); mov %ch,%al; out %al,(%dx); iret
  code = code + Bytes{0xba, 0xf8, 0x03, 0x88, 0xc8, 0xee, 0x88, 0xe8, 0xee, 0xcf};
  MachineConfig config = bare(Mode::kRecord, StartMode::kReal, code);
  config.kicks_per_second = 2000;
  Outcome outcome = record_and_replay(std::move(config), "", [](Machine& machine) {
    machine.inbox().push({InputKind::kInterrupt, 0, {0x30}});
  });
  CHECK(outcome.stats.run.kicks > 0);
  CHECK(outcome.output == std::string(2, '\0'));
}

// An instruction that reads and then writes a register in memory makes two accesses: the second arrives while
// the first is completed for its digest. The armed timer makes an event of each.
TEST(memory_mapped_read_modify_write) {
  // mov $0x70c,%dx; mov $0x7fffffff,%eax; out %eax,(%dx); mov $0xd0000000,%ebx; addb $8,(%rbx); mov $7,%al;
  // power off
  Bytes code{0x66, 0xba, 0x0c, 0x07, 0xb8, 0xff, 0xff, 0xff, 0x7f, 0xef, 0xbb, 0x00, 0x00,
             0x00, 0xd0, 0x80, 0x03, 0x08, 0xb0, 0x07, 0x66, 0xba, 0x04, 0x06, 0xee, 0xf4};
  Outcome outcome = record_and_replay(StartMode::kLong, code);
  CHECK(outcome.end.status == 7);
  CHECK(outcome.stats.at.accesses_total == 4);
}

TEST(triple_fault_after_an_access) {
  // out %al,$0x80; ud2, and with the usual schedule, where only the digest of the end is near
  const Bytes code{0xe6, 0x80, 0x0f, 0x0b};
  CHECK(record_and_replay(StartMode::kLong, code).end.reason == "shutdown");
  MachineConfig config = bare(Mode::kRecord, StartMode::kLong,
                              Bytes{0x66, 0xba, 0x0c, 0x07, 0xb8, 0xff, 0xff, 0xff, 0x7f, 0xef, 0x0f, 0x0b});
  config.options.digest_every = 0;
  CHECK(record_and_replay(std::move(config)).end.reason == "shutdown");
}

// Whoever looks at a replaying machine must not see an IN half done, nor complete it with the wrong value.
TEST(looking_does_not_change_what_is_read) {
  // mov $0x720,%dx; mov $3000,%cx; 1: in (%dx),%al; add %al,%bl; loop 1b; mov $0x3f8,%dx; mov %bl,%al; out;
  // cli; hlt
  Bytes code{0xba, 0x20, 0x07, 0xb9, 0xb8, 0x0b, 0xec, 0x00, 0xc3, 0xe2,
             0xfb, 0xba, 0xf8, 0x03, 0x88, 0xd8, 0xee, 0xfa, 0xf4};
  std::string log = temporary("log");
  MachineConfig config = bare(Mode::kRecord, StartMode::kReal, code);
  config.log = log;
  config.log_options.force = true;
  Outcome recorded = run(config);
  MachineConfig replay;
  replay.mode = Mode::kReplay;
  replay.log = log;
  Outcome replayed = run(replay, "", [](Machine& machine) {
    for (int i = 0; i < 50; i++) {
      machine.control().post([&machine] { machine.registers(); });
      usleep(500);
    }
  });
  unlink(log.c_str());
  CHECK(replayed.end.reason == recorded.end.reason);
  CHECK(replayed.output == recorded.output);
}

TEST(stopping_at_once_ends_a_guest_that_never_exits) {
  for (int i = 0; i < 50; i++) {
    Outcome outcome = run(bare(Mode::kRun, StartMode::kReal, Bytes{0xeb, 0xfe}), "",
                          [](Machine& machine) { machine.stop(); });
    CHECK(outcome.end.reason == "closed");
  }
}

// The 16550 has room for 4096 bytes: the rest waits outside until it has been read.
TEST(no_serial_input_is_lost) {
  // mov $100,%cx; 1: out %al,$0x80; loop 1b; then as in input_is_echoed
  Bytes code{0xb9, 0x64, 0x00, 0xe6, 0x80, 0xe2, 0xfc, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01,
             0x74, 0xf8, 0xba, 0xf8, 0x03, 0xec, 0xee, 0x3c, 0x0a, 0x75, 0xef, 0xfa, 0xf4};
  std::string text;
  while (text.size() < 9000) text += "0123456789 ";
  text += '\n';
  Outcome outcome = record_and_replay(StartMode::kReal, code, text);
  CHECK(outcome.output == text);
}

TEST(an_unrecorded_machine_can_be_traced_and_hashed) {
  // 1: sti; hlt; jmp 1b
  Outcome outcome =
      run(bare(Mode::kRun, StartMode::kReal, Bytes{0xfb, 0xf4, 0xeb, 0xfd}), "", [](Machine& machine) {
        machine.control().post([&machine] {
          machine.trace(true, true, 100, [](std::vector<TraceEntry>, uint64_t) {});
          machine.digest();
          machine.digest();
        });
        machine.control().post([&machine] { machine.stop(); });
      });
  CHECK(outcome.end.reason == "closed");
}
