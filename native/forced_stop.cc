// Forced stops, both ways: the state of a guest that was stopped between two accesses is taken and logged, or
// taken from the log. What happens then is the same for both.
#include <algorithm>

#include "guest/abi.h"
#include "run_loop.h"

namespace lockstep {

namespace {
// A frame closes at a megabyte, so a checkpoint comes in parts below that.
constexpr size_t kPagesOfPart = 200;
constexpr uint8_t kSwitchVector = 32;

// Kernel code stands above all of the program's.
bool in_program(const VcpuState& state) { return state.regs.rip < LS_USER_TOP; }
}  // namespace

bool RunLoop::take_over_forced_stop() {
  std::vector<Checkpoint> parts;
  switch (ask([&] { return driver_->forced_stop(&parts); })) {
    case Go::kOn: return false;
    case Go::kApply: break;
    default: stopped_ = true; return true;
  }
  parts_.vcpu.complete_access();
  for (const Checkpoint& part : parts)
    for (const PageBytes& page : part.pages)
      if (!parts_.memory.write(page.page * kPageBytes, page.bytes))
        throw Failure("ERR_LOCKSTEP_LOG_DAMAGED", "a checkpoint writes outside of the guest's memory");
  const VcpuState state = decode_vcpu_state(parts.back().vcpu);
  parts_.vcpu.set_state(state);
  // Among the pages may be page tables, of which KVM may hold a copy.
  parts_.vm.flush_page_tables();
  go_on_from(parts.back(), state);
  return true;
}

// A kick came back. It may have been the watchdog's.
void RunLoop::force_stop() {
  Checkpoint head;
  if (!driver_->force_stop(&head)) return;
  // It came too late: the guest has made an access since.
  if (monotonic_us() - computes_since_us() < Watchdog::kLimitMs * 1000) return;
  parts_.vcpu.complete_access();
  VcpuState state = parts_.vcpu.state();
  // Half delivered events, or a few instructions of CPL 0: the watchdog will try again.
  if (!parts_.vcpu.can_interrupt(state, parts_.memory)) return;
  if (parts_.make_digests && parts_.dirty) {
    parts_.dirty->harvest();
    std::vector<Checkpoint> parts(1, head);
    parts.back().last = false;
    for (uint64_t page : parts_.memory.take_written()) {
      if (parts.back().pages.size() == kPagesOfPart) {
        parts.push_back(head);
        parts.back().last = false;
      }
      const auto bytes = parts_.memory.view(page * kPageBytes, kPageBytes);
      parts.back().pages.push_back({page, {bytes.begin(), bytes.end()}});
    }
    parts.back().last = true;
    parts.back().vcpu = encode_vcpu_state(state);
    driver_->stop_forced(std::move(parts));
  }
  go_on_from(head, state);
}

// Of the recorder's machine and the replayer's alike: the guest's kernel gets the new time and is told to
// look at what is due, by an interrupt of the program or, inside the kernel, by a flag that it reads on its
// way out.
void RunLoop::go_on_from(const Checkpoint& head, const VcpuState& state) {
  counts_.forced_stops++;
  counts_.events++;
  at_.apply(head);
  Event now;
  now.time_us = head.time_us;
  board_.apply(now);
  const uint32_t yes = 1;
  if (in_program(state))
    parts_.vcpu.inject(kSwitchVector);
  else
    parts_.memory.store(LS_GPA_EXCHANGE + offsetof(ls_exchange, reschedule), yes);
  at_position_ = false;
  maybe_digest();
  if (driver_->applied(at_.lsn) == Go::kStop) stopped_ = true;
}

}  // namespace lockstep
