// Who decides what enters the machine: the recorder produces it, the replayer reads it. The run loop and the
// devices cannot tell which.
#pragma once

#include "device/device.h"
#include "log/event.h"

namespace lockstep {

struct MachineState;

// How far the guest has come. Owned by the run loop, handed from replayer to recorder at a takeover.
struct Progression {
  uint64_t lsn = 0;       // of the last event
  uint64_t accesses = 0;  // device accesses since then
  uint64_t accesses_total = 0;
  uint64_t hash = 0;         // running hash of all accesses
  uint64_t time_us = 0;      // virtual time
  uint64_t input_bytes = 0;  // console input that is in the log
  bool input_ended = false;
  void count(const Access& access);
  void apply(const Event& event);
  void apply(const Checkpoint& checkpoint);
  uint16_t access_hash() const { return static_cast<uint16_t>(hash >> 48); }
};

// After so many accesses that brought nothing an empty event is logged: what a cut log does not know of is
// never further from its last event than this.
constexpr uint64_t kAccessesWithoutEvent = 4096;

enum class Go {
  kOn,     // nothing enters here
  kApply,  // *event enters here
  kClose,  // *event enters here and is the last: the machine was told to stop
  kStop,   // stop without more ado: the log is over
  kLive,   // the log is over and this side is to carry on: ask the recorder
};

class Driver {
 public:
  virtual ~Driver() = default;
  // The event before the first instruction: virtual time at boot.
  virtual Go boot(Event* event) = 0;
  // The guest stands at an access (a write was performed, a read not yet).
  virtual Go position(const Access& access, const Want& want, Event* event) = 0;
  virtual bool output(uint8_t channel, std::span<const uint8_t> bytes) = 0;  // false: stopped while waiting
  // The event `lsn` has been applied, its digest (if any) is done. kOn or kStop.
  virtual Go applied(uint64_t lsn) = 0;
  // True when the log holds a digest here that the schedule does not call for.
  virtual bool digest_ahead() = 0;
  // A digest was made, right after an event (or at the end). kApply never comes back.
  virtual Go digest(const Digest& digest) = 0;
  virtual Go end(const End& end) = 0;
  // Somebody wants the machine's state as it is after this event; dirty pages harvested: now. It comes behind
  // its digest.
  virtual bool wants_state() { return false; }
  virtual bool state_is_due() { return false; }
  virtual void saved(const MachineState&, const Digest&) {}
  // The guest is about to run on. kApply: the log has a forced stop here, which is to be taken over.
  virtual Go forced_stop(std::vector<Checkpoint>* parts) = 0;
  // A kick has stopped the guest anywhere. True when it is to be a forced stop: *head says where and when.
  virtual bool force_stop(Checkpoint* head) = 0;
  virtual void stop_forced(std::vector<Checkpoint> parts) = 0;
  // The machine was stopped from outside.
  virtual void closed() = 0;
};

// When digests are due: a function of the log alone, so that recorder and replayer agree.
struct DigestSchedule {
  uint64_t every_events = 1000;             // registers and devices
  uint64_t memory_interval_us = 1'000'000;  // dirtied memory, in virtual time
  bool memory_always = false;               // --digest-every was given: memory each time
  uint64_t last_memory_us = 0;
  bool due(const Progression& at) const { return memory_due(at) || at.lsn % every_events == 0; }
  bool memory_due(const Progression& at) const {
    return (memory_always && at.lsn % every_events == 0) || at.time_us >= last_memory_us + memory_interval_us;
  }
};

}  // namespace lockstep
