#include "run_loop.h"

#include <algorithm>

#include "replay/divergence.h"

namespace lockstep {

namespace {
constexpr uint64_t kShutdownAddress = 1;  // a HLT has 0
}

RunLoop::RunLoop(Parts parts)
    : parts_(std::move(parts)),
      board_(*this, parts_.memory, parts_.model, parts_.seed, parts_.has_exchange, parts_.net),
      memory_digest_(parts_.memory.pages()),
      schedule_(parts_.schedule) {}

// ---- what devices may do ------------------------------------------------------------------------

void RunLoop::output(uint8_t channel, std::span<const uint8_t> bytes) {
  channel_hashes_[channel].add(bytes);
  channels_[channel].bytes += bytes.size();
  if (!driver_->output(channel, bytes)) stopped_ = true;
}

void RunLoop::raise(uint8_t vector) {
  if (std::find(vectors_.begin(), vectors_.end(), vector) == vectors_.end()) vectors_.push_back(vector);
}

void RunLoop::end(const End& end, const std::string& detail) {
  result_ = Result{end, detail, true};
  result_->end.accesses = at_.accesses;
  result_->end.access_hash = at_.access_hash();
}

// ---- the loop -------------------------------------------------------------------------------------

RunLoop::Result RunLoop::run(Driver& driver) {
  driver_ = &driver;
  Event boot;
  if (restored_) {
    if (driver_->applied(at_.lsn) == Go::kStop) stopped_ = true;
    if (parts_.control.poked()) parts_.control.serve();
    if (!stopped_ && !parts_.control.stopping()) go_on_waiting();
  } else if (ask([&] { return driver_->boot(&boot); }) == Go::kApply) {
    at_.apply(boot);
    board_.apply(boot);
    counts_.events++;
    entered_ = true;
    settle();
  } else {
    stopped_ = true;
  }
  // Asked before every run, the first too: a stop may have come before this thread could be kicked.
  while (!result_ && !stopped_ && !parts_.control.stopping()) {
    // After a kick or a full dirty ring the guest stands anywhere: what is pending waits for the next
    // position.
    if (std::exchange(at_position_, false)) inject_pending();
    if (take_over_forced_stop()) continue;
    const Exit exit = run_guest();
    if (parts_.memory.torn()) break;
    handle(exit);
  }
  if (result_) {
    finish();
    return *result_;
  }
  driver_->closed();
  return {{0, 0, EndReason::kClosed, 0}, "", false};
}

// Of a restored machine: what it waited for when its state was taken.
void RunLoop::go_on_waiting() {
  const bool waits = std::exchange(stand_, Stand::kNowhere) == Stand::kWaiting;
  const bool stays = std::exchange(halted_, false) && vectors_.empty();
  if (stays) return halt(waits);
  if (!waits) return;
  consult(waits_at_);
  settle();
}

Exit RunLoop::run_guest() {
  if (!computes_since_us()) computes_since_us_.store(monotonic_us(), std::memory_order_relaxed);
  Exit exit = parts_.vcpu.run();
  if (std::holds_alternative<InterruptedExit>(exit) || std::holds_alternative<DirtyRingFullExit>(exit))
    return exit;
  counts_.longest_run_us = std::max(counts_.longest_run_us, monotonic_us() - computes_since_us());
  computes_since_us_.store(0, std::memory_order_relaxed);
  return exit;
}

void RunLoop::handle(const Exit& exit) {
  counts_.exits++;
  if (auto* io = std::get_if<PortExit>(&exit)) return port(*io);
  if (auto* mmio = std::get_if<MmioExit>(&exit))
    return access({Space::kMmio, mmio->address, mmio->size, mmio->write, 0}, mmio->data, true);
  if (std::holds_alternative<InterruptedExit>(exit)) {
    counts_.kicks++;
    if (forget_page_tables_.exchange(false)) parts_.vm.flush_page_tables();
    force_stop();
  } else if (std::holds_alternative<DirtyRingFullExit>(exit)) {
    parts_.dirty->harvest();
  } else if (std::holds_alternative<HaltExit>(exit)) {
    halt();
  } else if (std::holds_alternative<ShutdownExit>(exit)) {
    // Counted, so that the end lies behind the last access and not at it, where an event may have its digest.
    count({Space::kHalt, kShutdownAddress, 1, true, 0});
    end({0, 0, EndReason::kShutdown, 0},
        "the guest stopped with a triple fault at " + hex(parts_.vcpu.regs().rip));
  } else if (auto* refused = std::get_if<EmulationExit>(&exit)) {
    std::string bytes;
    for (int i = 0; i < refused->length; i++) bytes += (i ? " " : "") + hex(refused->bytes[i]).substr(2);
    throw Failure("ERR_LOCKSTEP_EMULATION",
                  "this host's KVM cannot run the guest's instruction at " + hex(parts_.vcpu.regs().rip) +
                      (bytes.empty() ? "" : ": " + bytes),
                  "run `lockstep doctor`; a host with VT-x or SVM runs it");
  } else if (auto* unknown = std::get_if<UnknownExit>(&exit)) {
    throw Failure("ERR_LOCKSTEP_KVM", unknown->what, "run `lockstep doctor`");
  }
}

void RunLoop::port(const PortExit& exit) {
  if (parts_.has_exchange && exit.write && Traps::is_trap(exit.port)) return trap(exit.port);
  for (uint32_t i = 0; i < exit.count && !result_; i++)
    access({Space::kPort, exit.port, exit.size, exit.write, 0}, exit.data + i * exit.size,
           i + 1 == exit.count);
}

// A write happens before what enters here, a read after it. Of a string instruction only the last element
// lets anything in: registers cannot be looked at before.
void RunLoop::access(Access access, uint8_t* data, bool last) {
  if (access.write) std::memcpy(&access.value, data, access.size);
  count(access);
  if (access.write) board_.write(access);
  if (result_) return;
  if (last) consult(access);
  if (!access.write) {
    access.value = board_.read(access);
    std::memcpy(data, &access.value, access.size);
  }
  if (last) settle();
}

void RunLoop::count(const Access& access) {
  at_position_ = true;
  at_.count(access);
  if (observer_) observer_(at_, access);
}

void RunLoop::trap(uint64_t port) {
  // AL is not an operand of the replaced instruction.
  Access access{Space::kPort, port, 1, true, 0};
  count(access);
  consult(access);
  parts_.vcpu.complete_access();
  kvm_regs& r = parts_.vcpu.regs();
  TrapRegisters t{{r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi, r.r8, r.r9, r.r10, r.r11, r.r12,
                   r.r13, r.r14, r.r15},
                  r.rflags};
  if (board_.traps().answer(port, t)) {
    __u64* const targets[] = {&r.rax, &r.rcx, &r.rdx, &r.rbx, &r.rsp, &r.rbp, &r.rsi, &r.rdi,
                              &r.r8,  &r.r9,  &r.r10, &r.r11, &r.r12, &r.r13, &r.r14, &r.r15};
    for (int i = 0; i < 16; i++) *targets[i] = t.gpr[i];
    r.rflags = t.rflags;
    parts_.vcpu.regs_changed();
  }
  settle();
}

// `counted`: it was halted, and is so again.
void RunLoop::halt(bool counted) {
  Access access{Space::kHalt, 0, 1, true, 0};
  if (!parts_.vcpu.interrupt_flag()) {
    at_.count(access);
    return end({0, 0, EndReason::kHalted, 0}, "");
  }
  // Entering KVM again would step over the HLT, so an interrupt has to be there first.
  halted_ = true;
  do {
    if (!std::exchange(counted, false)) count(access);
    consult(access);
    settle();
  } while (vectors_.empty() && !stopped_);
  halted_ = false;
}

void RunLoop::consult(const Access& access) {
  Want want = board_.want(access);
  if (access.space == Space::kHalt && !vectors_.empty()) want.wait = false;
  Event event;
  // A read has no value yet, and a trap's registers are those from before it.
  const bool trapped = parts_.has_exchange && access.space == Space::kPort && Traps::is_trap(access.address);
  stand_ = access.write && !trapped ? Stand::kWaiting : Stand::kNowhere;
  waits_at_ = access;
  const Go go = ask([&] { return driver_->position(access, want, &event); });
  stand_ = Stand::kNowhere;
  switch (go) {
    case Go::kOn: break;
    case Go::kClose: closing_ = true; [[fallthrough]];
    case Go::kApply:
      counts_.events++;
      at_.apply(event);
      board_.apply(event);
      entered_ = true;
      break;
    default: stopped_ = true;
  }
}

// The access is complete: registers are true, so a digest can be made, and others may look.
void RunLoop::settle() {
  if (std::exchange(entered_, false)) {
    maybe_digest();
    if (driver_->applied(at_.lsn) == Go::kStop) stopped_ = true;
  }
  if (closing_) stopped_ = true;
  if (stopped_ || (!parts_.control.poked() && postponed_.empty())) return;
  // Whoever looks at the vCPU from another thread while this one serves finds nothing left to do on it.
  parts_.vcpu.complete_access();
  stand_ = Stand::kSettled;
  serve_postponed();
  parts_.control.serve();
  stand_ = Stand::kNowhere;
}

void RunLoop::serve_postponed() {
  for (const auto& task : std::exchange(postponed_, {})) task();
}

void RunLoop::maybe_digest() {
  if (!parts_.make_digests) return;
  // The first and the last are of all memory, the others of what was dirtied.
  bool whole = at_.lsn == 1 || closing_;
  const bool saved = is_to_be_saved();
  bool memory = whole || saved || schedule_.memory_due(at_);
  if (!memory && !schedule_.due(at_)) {
    if (!driver_->digest_ahead()) return;
    whole = memory = true;  // it was closed here
  }
  if (memory) schedule_.last_memory_us = at_.time_us;
  Digest made = digest(memory, whole);
  if (at_.lsn == 1) made.pages.clear();  // the image's own: its hash is in the header
  if (ask([&] { return driver_->digest(made); }) == Go::kStop) stopped_ = true;
  if (saved && !stopped_) driver_->saved(save_state(), made);
}

// Somebody wants the machine's state, and this event is one where it can be taken. Its digest is of memory
// too, which a replayer expects of one that is not due, or due with memory, only.
bool RunLoop::is_to_be_saved() {
  if (!parts_.dirty || closing_ || !driver_->wants_state()) return false;
  if (schedule_.due(at_) && !schedule_.memory_due(at_)) return false;
  parts_.vcpu.complete_access();
  if (parts_.vcpu.exit_waits()) return false;
  parts_.dirty->harvest();
  return driver_->state_is_due();
}

MachineState RunLoop::save_state() {
  MachineState state;
  state.at = at_;
  state.at_position = at_position_;
  state.halted = halted_;
  state.last_memory_us = schedule_.last_memory_us;
  state.vcpu = encode_vcpu_state(parts_.vcpu.state());
  state.devices = board_.save();
  state.vectors = vectors_;
  for (size_t i = 0; i < kOutputChannels; i++) {
    state.channel_bytes[i] = channels_[i].bytes;
    state.channel_hashes[i] = channel_hashes_[i].save();
  }
  return state;
}

std::optional<MachineState> RunLoop::save_standing() {
  if (stand_ == Stand::kNowhere) return std::nullopt;
  parts_.vcpu.complete_access();
  if (parts_.vcpu.exit_waits()) return std::nullopt;
  MachineState state = save_state();
  if (stand_ == Stand::kWaiting) state.waits_at = waits_at_;
  return state;
}

void RunLoop::restore_state(const MachineState& state) {
  at_ = state.at;
  stand_ = state.waits_at ? Stand::kWaiting : Stand::kSettled;
  waits_at_ = state.waits_at.value_or(Access{});
  at_position_ = state.at_position;
  halted_ = state.halted;
  schedule_.last_memory_us = state.last_memory_us;
  board_.restore(state.devices);
  vectors_ = state.vectors;
  for (size_t i = 0; i < kOutputChannels; i++) {
    channels_[i].bytes = state.channel_bytes[i];
    channel_hashes_[i].restore(state.channel_hashes[i]);
  }
  parts_.vcpu.set_state(decode_vcpu_state(state.vcpu));
  parts_.vm.flush_page_tables();
  parts_.vcpu.refresh();
  restored_ = true;
}

Digest RunLoop::digest(bool with_memory, bool whole) {
  counts_.digests++;
  parts_.vcpu.complete_access();
  Digest digest;
  digest.lsn = at_.lsn;
  VcpuState state = parts_.vcpu.state();
  digest.registers = hash_registers(state);
  digest.register_values = register_values(state.regs);
  Bytes devices = board_.save();
  devices.insert(devices.end(), vectors_.begin(), vectors_.end());
  digest.devices = hash_bytes(devices);
  for (size_t i = 0; i < kOutputChannels; i++)
    digest.channels[i] = {channels_[i].bytes, channels_[i].bytes ? channel_hashes_[i].value() : 0};
  if (!with_memory) return digest;
  if (parts_.dirty) parts_.dirty->harvest();
  std::vector<uint64_t> pages = parts_.memory.take_dirty();
  if (at_.accesses == 0) parts_.memory.forget_written();  // all of it before the last event
  counts_.dirty_pages += pages.size();
  memory_digest_.update(parts_.memory, pages, &digest.pages);
  if (whole || !parts_.dirty) {
    std::vector<uint64_t> stale = memory_digest_.update_all(parts_.memory);
    if (parts_.dirty && !stale.empty() && !parts_.memory.mappings().empty())
      throw Failure("ERR_LOCKSTEP_STATE_DAMAGED",
                    "page " + hex(stale[0] * kPageBytes) + " is not what its snapshot says",
                    "the snapshot's file was damaged, or changed while it was in use: check it with "
                    "`lockstep image inspect`");
    if (parts_.dirty && !stale.empty())
      throw Failure("ERR_LOCKSTEP_INTERNAL",
                    "page " + hex(stale[0] * kPageBytes) + " changed without being marked dirty",
                    "this is a defect of Lockstep or of this host's KVM: please report it");
    digest.whole = true;
  }
  digest.memory = memory_digest_.value();
  return digest;
}

// What was written before anybody tracked it is up to date from here on.
void RunLoop::set_dirty(DirtyTracker* dirty) {
  parts_.dirty = dirty;
  memory_digest_.update_all(parts_.memory);
}

void RunLoop::finish() {
  if (parts_.make_digests) {
    Digest last = digest(true, true);
    last.accesses = at_.accesses;
    ask([&] { return driver_->digest(last); });
  }
  ask([&] { return driver_->end(result_->end); });
}

void RunLoop::inject_pending() {
  if (vectors_.empty()) return;
  // First, because some hosts end the shadow of an STI when the access is made, others when it is completed.
  parts_.vcpu.complete_access();
  if (!parts_.vcpu.interrupts_ready()) return;
  parts_.vcpu.inject(vectors_.front());
  vectors_.erase(vectors_.begin());
  counts_.interrupts++;
}

}  // namespace lockstep
