#include "kvm/probe.h"

#include <linux/perf_event.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "boot.h"
#include "guest/abi.h"
#include "log/event.h"
#include "memory/page_faults.h"

namespace lockstep {

namespace {

double now_us() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

bool has_performance_counter() {
  perf_event_attr attr{};
  attr.type = PERF_TYPE_HARDWARE;
  attr.size = sizeof attr;
  attr.config = PERF_COUNT_HW_BRANCH_INSTRUCTIONS;
  attr.exclude_kernel = 1;
  Fd fd(static_cast<int>(syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC)));
  return static_cast<bool>(fd);
}

std::string back_end() {
  struct stat st;
  if (stat("/sys/module/kvm_pvm", &st) == 0) return "pvm";
  if (stat("/sys/module/kvm_intel", &st) == 0) return "vmx";
  if (stat("/sys/module/kvm_amd", &st) == 0) return "svm";
  return "unknown";
}

// A few instructions at CPL 0 in long mode: a counted loop between two OUTs, then a SYSCALL whose
// target reports its CPL.
constexpr uint8_t kCode[] = {
    0xe6, 0x10,                    // out %al,$0x10
    0xb9, 0x00, 0x10, 0x00, 0x00,  // mov $4096,%ecx
    0xff, 0xc9,                    // 1: dec %ecx
    0x75, 0xfc,                    // jnz 1b
    0xe6, 0x11,                    // out %al,$0x11
    0xe6, 0x12,                    // 2: out %al,$0x12
    0xeb, 0xfc,                    // jmp 2b
};
constexpr int kLoopInstructions = 8192, kRoundTrips = 200;
constexpr uint64_t kEntry = 0x10000;

struct Bench {
  KvmSystem system;
  KvmVm vm{system};
  GuestMemory memory{4 << 20};
  std::unique_ptr<KvmVcpu> vcpu;
  Bench() {
    vm.set_slot(0, 0, memory.bytes(), memory.host(), false);
    vcpu = std::make_unique<KvmVcpu>(vm);
  }
  bool run_to(uint16_t port) {
    for (int tries = 0; tries < 1000; tries++) {
      Exit exit = vcpu->run();
      if (auto* io = std::get_if<PortExit>(&exit)) return io->port == port;
      if (!std::holds_alternative<InterruptedExit>(exit)) return false;
    }
    return false;
  }
};

void measure_kernel_code(HostProbe& probe, const CpuModel& model) {
  Bench bench;
  bench.memory.write(kEntry, kCode);
  Image image;
  image.header.mode = static_cast<uint32_t>(StartMode::kLong);
  image.header.entry = kEntry;
  image.segments = {{kEntry, sizeof kCode, 0}};
  std::array<uint8_t, 32> random{};
  boot_image(image, model, {0, 0, 0, random}, bench.memory, *bench.vcpu);
  if (!bench.run_to(0x10)) return;
  double start = now_us();
  if (!bench.run_to(0x11)) return;
  double loop_us = now_us() - start;
  start = now_us();
  for (int i = 0; i < kRoundTrips; i++)
    if (!bench.run_to(0x12)) return;
  probe.exit_round_trip_us = (now_us() - start) / kRoundTrips;
  probe.kernel_instructions_per_us = kLoopInstructions / std::max(loop_us - probe.exit_round_trip_us, 0.1);
  probe.emulated_kernel_code = probe.kernel_instructions_per_us < 100;
}

// At CPL 3: SYSCALL to `out`; the CS selector tells where it arrived.
void measure_syscall(HostProbe& probe, const CpuModel& model) {
  constexpr uint8_t user[] = {0x0f, 0x05};                            // syscall
  constexpr uint8_t target[] = {0x8c, 0xc8, 0xe6, 0xe0, 0xeb, 0xfe};  // mov %cs,%eax; out %al,$0xe0; jmp .
  constexpr uint64_t kUser = LS_GPA_KERNEL + 0x1000, kTarget = LS_GPA_KERNEL + 0x1100;
  Bench bench;
  ls_kernel_header kernel{};
  std::memcpy(kernel.magic, "LSKERN1", 8);
  kernel.abi_version = LS_ABI_VERSION;
  kernel.entry = LS_DIRECT_MAP + kUser;
  kernel.syscall_entry = LS_DIRECT_MAP + kTarget;
  ls_boot boot{};
  boot.magic = LS_BOOT_MAGIC;
  bench.memory.store(LS_GPA_KERNEL, kernel);
  bench.memory.store(LS_GPA_BOOT, boot);
  bench.memory.write(kUser, user);
  bench.memory.write(kTarget, target);
  Image image;
  image.header.mode = static_cast<uint32_t>(StartMode::kProgram);
  std::array<uint8_t, 32> random{};
  boot_image(image, model, {0, 0, 0, random}, bench.memory, *bench.vcpu);
  if (!bench.run_to(LS_PORT_EXCHANGE)) return;
  bench.vcpu->complete_access();
  probe.syscall_arrives = bench.vcpu->state().regs.rax & 3 ? "cpl3" : "cpl0";
}

}  // namespace

HostProbe probe_host() {
  HostProbe probe;
  probe.performance_counter = has_performance_counter();
  probe.page_faults = page_faults_possible();
  try {
    CpuModel model = CpuModel::build("");
    probe.vendor = model.vendor();
    probe.cpu_model = model.level();
    KvmSystem system;
    probe.api_version = 12;
    probe.back_end = back_end();
    probe.sync_regs = system.extension(KVM_CAP_SYNC_REGS) & KVM_SYNC_X86_REGS;
    probe.dirty_ring = system.extension(KVM_CAP_DIRTY_LOG_RING_ACQ_REL) > 0;
    probe.immediate_exit = system.extension(KVM_CAP_IMMEDIATE_EXIT) > 0;
    measure_kernel_code(probe, model);
    measure_syscall(probe, model);
  } catch (const Failure& failure) {
    probe.error = failure.what();
    probe.hint = failure.hint;
    probe.error_code = failure.code;
  }
  return probe;
}

}  // namespace lockstep
