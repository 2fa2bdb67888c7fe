// Reads what enters the machine from a log or from the link, and checks that the guest came the same way.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "link/pair.h"
#include "memory/guest_memory.h"
#include "replay/control.h"
#include "replay/divergence.h"
#include "replay/driver.h"
#include "replay/record_source.h"
#include "replay/watchdog.h"
#include "replay/world.h"

namespace lockstep {

class Replayer : public Driver {
 public:
  struct Parts {
    Progression& at;
    RecordSource& source;
    // A file: what comes next can be looked at. A link: looking may mean waiting for the primary.
    bool can_peek;
    World& world;
    Control& control;
    const GuestMemory& memory;
    Pair* pair = nullptr;
    uint64_t stop_at_event = 0;
    bool has_exchange = false;     // the guest kernel runs in the machine
    bool live_after_stop = false;  // leave the log there: what is asked of the guest then, it answers
    std::function<uint64_t()> computes_since_us;  // as the Watchdog wants it
  };
  explicit Replayer(Parts parts) : parts_(std::move(parts)) {}

  Go boot(Event* event) override;
  Go position(const Access& access, const Want& want, Event* event) override;
  bool output(uint8_t channel, std::span<const uint8_t> bytes) override;
  Go applied(uint64_t lsn) override;
  bool digest_ahead() override;
  Go digest(const Digest& digest) override;
  Go end(const End& end) override;
  Go forced_stop(std::vector<Checkpoint>* parts) override;
  bool force_stop(Checkpoint*) override { return false; }
  void stop_forced(std::vector<Checkpoint>) override {}
  void closed() override { stop_waiting(); }

  uint64_t digests_checked() const { return digests_checked_; }
  const std::optional<Digest>& final_digest() const { return final_digest_; }
  // How the log ended, when it was closed on purpose.
  const std::optional<End>& recorded_end() const { return recorded_end_; }
  // The log stops without an end, and its last event was applied.
  bool ran_past_log() const { return past_log_; }

 private:
  Go next_at(const Access& access, Event* event);
  bool may_run_on();
  void run_past_log();
  void stop_waiting();
  Go past_log(const Want& want);
  bool stops_at(const End& end);
  Go fetch();  // kOn: record_ holds the next one
  [[noreturn]] void diverge(const std::string& kind, const std::string& where, const std::string& expected,
                            const std::string& actual);
  void remember(std::string event);
  void compare(const Digest& recorded, const Digest& actual);
  Parts parts_;
  std::optional<Record> record_;
  std::deque<std::string> before_;
  bool left_log_ = false;
  bool may_serve_ = true;  // what others want of the machine can be done while it waits for a record
  uint64_t digests_checked_ = 0;
  std::optional<Digest> final_digest_;
  std::optional<End> recorded_end_;
  bool past_log_ = false;
  std::jthread patience_;
  std::unique_ptr<Watchdog> watchdog_;
};

}  // namespace lockstep
