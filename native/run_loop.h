// Runs the guest: exits become accesses, accesses go to the devices, and at every position the driver says
// what enters. The same loop records, replays and shadows.
#pragma once

#include <atomic>
#include <optional>

#include "device/board.h"
#include "kvm/vcpu.h"
#include "machine_state.h"
#include "memory/digest.h"
#include "memory/dirty_tracker.h"
#include "memory/stream_hash.h"
#include "replay/driver.h"
#include "replay/recorder.h"

namespace lockstep {

struct RunCounts {
  uint64_t exits = 0, kicks = 0, events = 0, digests = 0, interrupts = 0, dirty_pages = 0;
  uint64_t forced_stops = 0;
  uint64_t longest_run_us = 0;  // of the guest, between two accesses
};

// Told of every access, when somebody traces.
using AccessObserver = std::function<void(const Progression&, const Access&)>;

class RunLoop : public Sink {
 public:
  struct Parts {
    KvmVm& vm;
    KvmVcpu& vcpu;
    GuestMemory& memory;
    const CpuModel& model;
    std::span<const uint8_t, 32> seed;
    bool has_exchange;
    std::optional<VirtioNetConfig> net;
    DirtyTracker* dirty;  // null: digests hash all of memory
    Control& control;
    DigestSchedule schedule;
    bool make_digests;  // false: an unrecorded machine
    // The replayer came to the end of what its primary sent: who goes on?
    std::function<Driver&()> go_live;
  };
  explicit RunLoop(Parts parts);

  struct Result {
    End end;
    std::string detail;
    bool by_guest = false;  // it ended itself; otherwise it was stopped or its log was over
  };
  // Until the machine ends or is stopped. Throws Failure or Diverged.
  Result run(Driver& driver);

  Progression& progression() { return at_; }
  const Progression& progression() const { return at_; }
  const RunCounts& counts() const { return counts_; }
  Board& board() { return board_; }
  // Registers, devices and memory as they stand; `whole` rehashes all of memory.
  Digest digest(bool with_memory, bool whole);
  // Everything but memory, right after an event; and back, in a machine that has not run. restore_state
  // throws ERR_LOCKSTEP_STATE_DAMAGED. Memory is loaded before it.
  MachineState save_state();
  void restore_state(const MachineState& state);
  // The same where the machine stands while its control serves others; nothing where that is in the midst of
  // an access.
  std::optional<MachineState> save_standing();
  // On the vCPU's thread: once more when what it is in the midst of is over, or after the machine's end.
  void postpone(std::function<void()> task) { postponed_.push_back(std::move(task)); }
  void serve_postponed();
  // Of a restored machine, whose memory is that of the state: what its pages count (MemoryDigest).
  MemoryDigest& memory_digest() { return memory_digest_; }
  // Any thread: since when the guest computes without an access (CLOCK_MONOTONIC); 0 while it waits or is
  // served.
  uint64_t computes_since_us() const { return computes_since_us_.load(std::memory_order_relaxed); }
  void stop_digests() { parts_.make_digests = false; }
  // Test aid, any thread: at the next kick KVM loses its copies of the guest's page tables, as it may at any
  // time when its host is short of memory.
  void forget_page_tables() { forget_page_tables_ = true; }
  void set_dirty(DirtyTracker* dirty);
  void observe(AccessObserver observer) { observer_ = std::move(observer); }

  // ---- Sink
  void output(uint8_t channel, std::span<const uint8_t> bytes) override;
  void raise(uint8_t vector) override;
  void end(const End& end, const std::string& detail) override;

 private:
  void handle(const Exit& exit);
  void access(Access access, uint8_t* data, bool last);
  void count(const Access& access);
  void port(const PortExit& exit);
  void trap(uint64_t port);
  void halt(bool counted = false);
  void go_on_waiting();
  void consult(const Access& access);
  void settle();
  void maybe_digest();
  void finish();
  bool is_to_be_saved();
  void inject_pending();
  Exit run_guest();
  bool take_over_forced_stop();
  void force_stop();
  void go_on_from(const Checkpoint& head, const VcpuState& state);
  template <typename Ask>
  Go ask(Ask question);  // swaps the driver on kLive and asks again

  Parts parts_;
  Board board_;
  Driver* driver_ = nullptr;
  Progression at_;
  MemoryDigest memory_digest_;
  DigestSchedule schedule_;
  std::array<ChannelPosition, kOutputChannels> channels_{};
  std::array<StreamHash, kOutputChannels> channel_hashes_;
  std::vector<uint8_t> vectors_;  // raised, not yet injected
  std::optional<Result> result_;
  bool entered_ = false;  // an event was applied at this position
  std::atomic<uint64_t> computes_since_us_{0};
  std::atomic<bool> forget_page_tables_{false};
  bool at_position_ = false;  // the guest made an access since it was last entered
  bool closing_ = false;      // it was the last one
  bool stopped_ = false;
  bool halted_ = false;    // in a HLT, until something is raised
  bool restored_ = false;  // it goes on from a state, not from boot
  // Where it stands while others are served: settled, or at an access that waits for what enters.
  enum class Stand { kNowhere, kSettled, kWaiting };
  Stand stand_ = Stand::kNowhere;
  Access waits_at_;
  RunCounts counts_;
  AccessObserver observer_;
  std::vector<std::function<void()>> postponed_;
};

template <typename Ask>
Go RunLoop::ask(Ask question) {
  Go go = question();
  if (go != Go::kLive) return go;
  driver_ = &parts_.go_live();
  return question();
}

}  // namespace lockstep
