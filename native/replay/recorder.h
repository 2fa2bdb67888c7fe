// Produces what enters the machine, and logs it first. Also runs machines without a log.
#pragma once

#include <memory>

#include "link/pair.h"
#include "log/log_file.h"
#include "replay/driver.h"
#include "replay/inputs.h"
#include "replay/watchdog.h"
#include "replay/world.h"

namespace lockstep {

// Virtual time while recording: the host's monotonic clock from a starting point, or a fixed course.
class RecordingClock {
 public:
  // Goes on from `start_us`; 0 takes the host's real time.
  static RecordingClock following_host(uint64_t start_us);
  // Never reads the host's clock: every sample is kFixedStepUs later, and waiting costs no time.
  static RecordingClock fixed(uint64_t start_us);
  uint64_t sample(uint64_t last_us) const;
  bool is_fixed() const { return fixed_; }

 private:
  static constexpr uint64_t kFixedStepUs = 10;
  bool fixed_ = false;
  uint64_t start_us_ = 0, host_start_us_ = 0;
};

class Recorder : public Driver {
 public:
  struct Parts {
    Progression& at;
    Inputs& inputs;
    Control& control;
    World& world;
    RecordingClock clock;
    std::unique_ptr<FrameEncoder> encoder;  // null: nothing is logged
    LogFileWriter* log = nullptr;
    Pair* pair = nullptr;
    // Tells when the guest has computed for too long; null: it may compute for ever.
    Watchdog* watchdog = nullptr;
    // The log file failed but the pair goes on without it.
    std::function<void(const Failure&)> log_failed;
  };
  explicit Recorder(Parts parts);

  Go boot(Event* event) override;
  Go position(const Access& access, const Want& want, Event* event) override;
  bool output(uint8_t channel, std::span<const uint8_t> bytes) override;
  Go applied(uint64_t) override { return Go::kOn; }
  bool digest_ahead() override { return false; }
  Go digest(const Digest& digest) override;
  Go end(const End& end) override;
  Go forced_stop(std::vector<Checkpoint>*) override { return Go::kOn; }
  bool force_stop(Checkpoint* head) override;
  void stop_forced(std::vector<Checkpoint> parts) override;
  void closed() override;
  bool wants_state() override { return parts_.pair && parts_.pair->wants_state(); }
  bool state_is_due() override { return parts_.pair->state_is_due(); }
  void saved(const MachineState& state, const Digest& digest) override;
  // The shadow carries on: marks the place in its log.
  void took_over(uint64_t generation);
  FrameEncoder::Counts counts() const;

 private:
  static constexpr size_t kFrameBytes = 64 * 1024;
  bool satisfied(const Event& event, const Want& want) const;
  void log(Event* event);
  void append(const Record& record);
  void flush();
  void tell_progress();
  Parts parts_;
  Bytes frame_;              // the last one
  uint64_t logged_lsn_ = 0;  // of the last event that is in the log, not only in the encoder
  End reached_;              // the last output after it
  Progress told_{UINT64_MAX, 0};
};

}  // namespace lockstep
