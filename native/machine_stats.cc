// What a machine says of itself while it runs, to any thread that asks.
#include "guest/abi.h"
#include "machine.h"

namespace lockstep {

Machine::Stats Machine::stats() const {
  Stats stats{};
  if (!built_) return stats;
  stats.run = run_loop_->counts();
  stats.at = run_loop_->progression();
  if (const VirtioNet* net = run_loop_->board().net()) stats.net = net->counts();
  if (nic_) {
    stats.net.dropped_in += nic_->lost_in;
    stats.net.dropped_out += nic_->lost_out;
  }
  {
    std::lock_guard lock(parts_mutex_);
    if (recorder_) stats.log = recorder_->counts();
    if (log_) stats.log_file_bytes = log_->bytes();
    if (replayer_) stats.digests_checked = replayer_->digests_checked();
  }
  // Who asks does not wait for what has not arrived.
  const auto load = [this](uint64_t gpa, auto* value) {
    return (!streamed_ || streamed_->is_here(gpa, sizeof *value)) && memory_->load(gpa, value);
  };
  ls_kernel_header kernel{};
  if (!has_program() || !load(LS_GPA_KERNEL, &kernel)) return stats;
  load(LS_GPA_EXCHANGE + offsetof(ls_exchange, accepted), &stats.accepted);
  uint32_t unknown[512] = {};
  load(kernel.syscall_count - LS_DIRECT_MAP, &stats.system_calls);
  load(kernel.unknown_syscalls - LS_DIRECT_MAP, &unknown);
  for (uint32_t number = 0; number < 512; number++)
    if (unknown[number]) stats.unknown_calls.emplace_back(number, unknown[number]);
  return stats;
}

}  // namespace lockstep
