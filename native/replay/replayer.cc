#include "replay/replayer.h"

#include <cstdio>

#include "memory/digest.h"

namespace lockstep {

namespace {
constexpr size_t kEventsBefore = 8;
constexpr std::chrono::seconds kPastLog{10};
}  // namespace

std::string hex(uint64_t value) {
  char text[20];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

std::string describe(const Event& event) {
  static const char* const kinds[] = {"data",   "eof",    "hangup",    "signal",
                                      "window", "serial", "interrupt", "packet"};
  std::string line =
      "event " + std::to_string(event.lsn) + " after " + std::to_string(event.accesses) + " accesses";
  if (event.time_us) line += ", time " + std::to_string(*event.time_us) + " us";
  for (const Input& input : event.inputs)
    line += std::string(", ") + kinds[static_cast<int>(input.kind) % 8] + " on channel " +
            std::to_string(input.channel) + " (" + std::to_string(input.bytes.size()) + " bytes)";
  return line;
}

void Replayer::diverge(const std::string& kind, const std::string& where, const std::string& expected,
                       const std::string& actual) {
  throw Diverged({parts_.at.lsn, kind, where, expected, actual, {before_.begin(), before_.end()}});
}

void Replayer::remember(std::string event) {
  before_.push_back(std::move(event));
  if (before_.size() > kEventsBefore) before_.pop_front();
}

Go Replayer::fetch() {
  if (left_log_) return Go::kLive;
  while (!record_) {
    record_.emplace();
    switch (parts_.source.next(&*record_)) {
      case RecordSource::Next::kRecord: break;
      case RecordSource::Next::kEnd:
      case RecordSource::Next::kStopped: record_.reset(); return Go::kStop;
      case RecordSource::Next::kLive: record_.reset(); return Go::kLive;
      case RecordSource::Next::kNudged:
        record_.reset();
        if (parts_.control.stopping()) return Go::kStop;
        if (may_serve_) parts_.control.serve();
        continue;
    }
    if (std::holds_alternative<Takeover>(*record_)) record_.reset();
  }
  return Go::kOn;
}

Go Replayer::boot(Event* event) {
  if (Go go = fetch(); go != Go::kOn) return go;
  if (auto* end = std::get_if<End>(&*record_); end && end->reason == EndReason::kFailed) {
    recorded_end_ = *end;
    return Go::kStop;
  }
  auto* first = std::get_if<Event>(&*record_);
  if (!first || first->accesses) diverge("access", "the first record", "the event at boot", "something else");
  *event = std::move(*first);
  record_.reset();
  return Go::kApply;
}

// A log that was cut does not say how far the guest came after its last event, and what it printed there may
// have left the machine. So it runs on to the first access that must have brought an event. Nothing that left
// is missing then: an event is in the log before any output behind it leaves. But what is printed here may
// never have left. A guest that does not come to such an access is not waited for for ever; one that would
// have got a forced stop, no longer than until that.
void Replayer::run_past_log() {
  past_log_ = true;
  if (parts_.has_exchange) {
    const uint64_t from_us = parts_.at.time_us - monotonic_us();
    watchdog_ = std::make_unique<Watchdog>(
        parts_.memory, parts_.computes_since_us, [from_us] { return from_us + monotonic_us(); },
        [&control = parts_.control] { control.stop(); });
  }
  patience_ = std::jthread([&control = parts_.control](std::stop_token over) {
    std::mutex mutex;
    std::condition_variable_any never;
    std::unique_lock lock(mutex);
    never.wait_for(lock, over, kPastLog, [] { return false; });
    if (!over.stop_requested()) control.stop();
  });
}

void Replayer::stop_waiting() {
  patience_.request_stop();
  watchdog_.reset();
}

Go Replayer::past_log(const Want& want) {
  const bool has_event = want.time || want.wait || parts_.at.accesses >= kAccessesWithoutEvent;
  return has_event ? Go::kStop : Go::kOn;
}

Go Replayer::position(const Access& access, const Want& want, Event* event) {
  if (parts_.control.stopping()) return Go::kStop;
  if (past_log_) return past_log(want);
  // A read has no value yet: who looked at the machine now would complete it with none.
  may_serve_ = access.write;
  const Go go = next_at(access, event);
  may_serve_ = true;
  return go;
}

Go Replayer::next_at(const Access& access, Event* event) {
  for (;;) {
    if (Go go = fetch(); go != Go::kOn) return go;
    if (auto* next = std::get_if<Event>(&*record_)) {
      if (next->accesses > parts_.at.accesses) return Go::kOn;
      std::string where =
          "access " + std::to_string(parts_.at.accesses) + " since the event, at " + hex(access.address);
      if (next->accesses < parts_.at.accesses)
        diverge("access", where, "an event after " + std::to_string(next->accesses) + " accesses",
                "one more access");
      if (next->access_hash != parts_.at.access_hash())
        diverge(
            "access", where, "hash " + hex(next->access_hash),
            "hash " + hex(parts_.at.access_hash()) + (access.write ? ", wrote " + hex(access.value) : ""));
      *event = std::move(*next);
      record_.reset();
      remember(describe(*event));
      return Go::kApply;
    }
    if (auto* checkpoint = std::get_if<Checkpoint>(&*record_)) {
      if (checkpoint->accesses >= parts_.at.accesses) return Go::kOn;
      diverge("access", "the forced stop " + std::to_string(checkpoint->lsn),
              "after " + std::to_string(checkpoint->accesses) + " accesses", "one more access");
    }
    if (auto* progress = std::get_if<Progress>(&*record_)) {
      if (progress->lsn == parts_.at.lsn && progress->accesses >= parts_.at.accesses) return Go::kOn;
    } else if (auto* end = std::get_if<End>(&*record_)) {
      if (end->accesses > parts_.at.accesses) return Go::kOn;
      if (stops_at(*end)) return Go::kStop;
      diverge("end", "the end", "the machine ended here", "it went on");
    } else {
      // The digest of the end. One made right after the event is past: the replayer of a file has looked
      // ahead and seen it, on a link it came too late.
      uint64_t at_end = std::get<Digest>(*record_).accesses;
      if (at_end > parts_.at.accesses) return Go::kOn;
      if (at_end || parts_.can_peek) diverge("end", "the end", "the machine ended here", "it went on");
    }
    record_.reset();
  }
}

bool Replayer::output(uint8_t channel, std::span<const uint8_t> bytes) {
  return parts_.world.output(channel, parts_.at.lsn, bytes);
}

Go Replayer::applied(uint64_t lsn) {
  if (parts_.pair) parts_.pair->executed(lsn);
  if (lsn == parts_.stop_at_event) {
    parts_.control.pause();
    left_log_ = parts_.live_after_stop;
    return Go::kOn;  // it stands still first, even at the end of the log
  }
  if (!parts_.can_peek) return Go::kOn;
  if (fetch() != Go::kOn) {
    run_past_log();
    return Go::kOn;
  }
  auto* end = std::get_if<End>(&*record_);
  return end && end->accesses == 0 && stops_at(*end) ? Go::kStop : Go::kOn;
}

// Whether the guest was stopped from outside when it had come to where it stands now.
bool Replayer::stops_at(const End& end) {
  if (end.reason != EndReason::kClosed && end.reason != EndReason::kFailed) return false;
  if (end.accesses != 0 && end.accesses == parts_.at.accesses && end.access_hash != parts_.at.access_hash())
    diverge("access", "the end", "hash " + hex(end.access_hash), "hash " + hex(parts_.at.access_hash()));
  recorded_end_ = end;
  return true;
}

// The record that comes next lets the guest run on to its next access: there the other side has been. A
// progress message that does not say so is used up.
bool Replayer::may_run_on() {
  const auto* progress = std::get_if<Progress>(&*record_);
  if (!progress) return true;
  if (progress->lsn == parts_.at.lsn && progress->accesses >= parts_.at.accesses) return true;
  record_.reset();
  return false;
}

// Nobody can find the place of a forced stop by running there. So a shadow waits here until it knows that its
// primary came to the next access, or was stopped before.
Go Replayer::forced_stop(std::vector<Checkpoint>* parts) {
  if (past_log_) return Go::kOn;
  for (;;) {
    // A checkpoint whose last part is missing is no event: who goes live here goes on from where it stands.
    if (Go go = fetch(); go != Go::kOn)
      return go == Go::kStop && parts_.can_peek && parts->empty() ? Go::kOn : go;
    auto* part = std::get_if<Checkpoint>(&*record_);
    if (!part && !may_run_on()) continue;
    if (!part || part->accesses > parts_.at.accesses) return Go::kOn;
    if (part->access_hash != parts_.at.access_hash())
      diverge("access", "the forced stop " + std::to_string(part->lsn), "hash " + hex(part->access_hash),
              "hash " + hex(parts_.at.access_hash()));
    const bool last = part->last;
    if (last)
      remember("forced stop " + std::to_string(part->lsn) + " after " + std::to_string(part->accesses) +
               " accesses");
    parts->push_back(std::move(*part));
    record_.reset();
    if (last) return Go::kApply;
  }
}

bool Replayer::digest_ahead() {
  if (!parts_.can_peek || fetch() != Go::kOn) return false;
  auto* digest = std::get_if<Digest>(&*record_);
  return digest && digest->accesses == 0;
}

Go Replayer::digest(const Digest& actual) {
  for (;;) {
    if (Go go = fetch(); go != Go::kOn) return go;
    if (!std::holds_alternative<Progress>(*record_)) break;
    record_.reset();
  }
  // The frame of the event was written, that of its digest found no room.
  if (auto* end = std::get_if<End>(&*record_); end && end->reason == EndReason::kFailed) return Go::kOn;
  auto* recorded = std::get_if<Digest>(&*record_);
  if (!recorded) diverge("end", "event " + std::to_string(parts_.at.lsn), "no digest", "a digest is due");
  compare(*recorded, actual);
  digests_checked_++;
  if (actual.whole) final_digest_ = actual;
  record_.reset();
  return Go::kOn;
}

void Replayer::compare(const Digest& recorded, const Digest& actual) {
  for (size_t i = 0; i < recorded.channels.size(); i++) {
    if (recorded.channels[i] == actual.channels[i]) continue;
    auto show = [](const ChannelPosition& p) {
      return std::to_string(p.bytes) + " bytes, hash " + hex(p.hash);
    };
    diverge("output", "output channel " + std::to_string(i), show(recorded.channels[i]),
            show(actual.channels[i]));
  }
  for (size_t i = 0; i < recorded.register_values.size() && i < actual.register_values.size(); i++)
    if (recorded.register_values[i] != actual.register_values[i])
      diverge("register", kRegisterNames[i], hex(recorded.register_values[i]),
              hex(actual.register_values[i]));
  if (recorded.registers != actual.registers)
    diverge("register", "a register beyond the general ones", hex(recorded.registers), hex(actual.registers));
  if (recorded.devices != actual.devices)
    diverge("device", "the devices", hex(recorded.devices), hex(actual.devices));
  if (!recorded.memory || recorded.memory == actual.memory) return;
  for (const PageHash& page : recorded.pages) {
    uint32_t here = MemoryDigest::page_hash(parts_.memory, page.page);
    if (here != page.hash)
      diverge("memory", "page " + hex(page.page * kPageBytes), hex(page.hash), hex(here));
  }
  for (const PageHash& page : actual.pages) {
    bool known = false;
    for (const PageHash& other : recorded.pages) known = known || other.page == page.page;
    if (!known) diverge("memory", "page " + hex(page.page * kPageBytes), "not written", hex(page.hash));
  }
  diverge("memory", "a page that neither side wrote since the last digest", hex(*recorded.memory),
          hex(actual.memory.value_or(0)));
}

Go Replayer::end(const End& actual) {
  stop_waiting();
  if (Go go = fetch(); go != Go::kOn) return go;
  auto* recorded = std::get_if<End>(&*record_);
  if (!recorded) diverge("end", "the end", "another record", "the machine ended");
  recorded_end_ = *recorded;
  if (!(*recorded == actual))
    diverge("end", "the end",
            "reason " + std::to_string(static_cast<int>(recorded->reason)) + " status " +
                std::to_string(recorded->status),
            "reason " + std::to_string(static_cast<int>(actual.reason)) + " status " +
                std::to_string(actual.status));
  return Go::kOn;
}

}  // namespace lockstep
