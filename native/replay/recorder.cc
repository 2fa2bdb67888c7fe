#include "replay/recorder.h"

#include <time.h>

#include <algorithm>
#include <utility>

#include "guest/abi.h"
#include "machine_state.h"

namespace lockstep {

namespace {
// A shadow cannot follow a guest that computes; a forced stop hands it what was computed so far. So often,
// but more rarely where so much memory was written that it would cost more than so many bytes of log.
constexpr uint32_t kShadowBehindMs = 100, kShadowBehindMsMax = 2000;
constexpr uint64_t kShadowBytesPerMs = 10'000;

uint64_t clock_us(clockid_t id) {
  timespec now;
  clock_gettime(id, &now);
  return now.tv_sec * 1'000'000ull + now.tv_nsec / 1000;
}
}  // namespace

RecordingClock RecordingClock::following_host(uint64_t start_us) {
  RecordingClock clock;
  clock.start_us_ = start_us ? start_us : clock_us(CLOCK_REALTIME);
  clock.host_start_us_ = monotonic_us();
  return clock;
}

RecordingClock RecordingClock::fixed(uint64_t start_us) {
  RecordingClock clock;
  clock.fixed_ = true;
  clock.start_us_ = start_us;
  return clock;
}

uint64_t RecordingClock::sample(uint64_t last_us) const {
  if (fixed_) return last_us ? last_us + kFixedStepUs : start_us_;
  return std::max(last_us, start_us_ + (monotonic_us() - host_start_us_));
}

Recorder::Recorder(Parts parts) : parts_(std::move(parts)) {
  if (parts_.pair && parts_.watchdog) parts_.watchdog->bite_after(kShadowBehindMs);
}

FrameEncoder::Counts Recorder::counts() const {
  return parts_.encoder ? parts_.encoder->counts() : FrameEncoder::Counts{};
}

Go Recorder::boot(Event* event) {
  event->time_us = parts_.clock.sample(0);
  log(event);
  return Go::kApply;
}

bool Recorder::satisfied(const Event& event, const Want& want) const {
  return !event.inputs.empty() || *event.time_us >= want.deadline_us;
}

Go Recorder::position(const Access&, const Want& want, Event* event) {
  Control& control = parts_.control;
  event->inputs = parts_.inputs.take(want);
  if (!want.time && !want.wait && !control.stopping()) {
    if (event->inputs.empty() && parts_.at.accesses < kAccessesWithoutEvent && !wants_state()) return Go::kOn;
    log(event);
    return Go::kApply;
  }
  event->time_us = parts_.clock.sample(parts_.at.time_us);
  if (want.wait && !satisfied(*event, want)) {
    flush();
    tell_progress();
  }
  while (want.wait && !satisfied(*event, want)) {
    if (control.stopping()) break;
    if (control.poked()) control.serve();
    if (wants_state()) break;  // an event that brings nothing but time: the guest waits again
    if (parts_.clock.is_fixed() && want.deadline_us != UINT64_MAX) {
      event->time_us = want.deadline_us;  // a sleeper on a fixed course wakes at once
      break;
    }
    int64_t timeout =
        want.deadline_us == UINT64_MAX ? -1 : static_cast<int64_t>(want.deadline_us - *event->time_us);
    parts_.inputs.wait(want, timeout);
    event->inputs = parts_.inputs.take(want);
    event->time_us = parts_.clock.sample(parts_.at.time_us);
  }
  log(event);
  return control.stopping() ? Go::kClose : Go::kApply;
}

void Recorder::log(Event* event) {
  event->lsn = parts_.at.lsn + 1;
  event->accesses = parts_.at.accesses;
  event->access_hash = parts_.at.access_hash();
  // There and back: a copy would copy every packet.
  Record record(std::move(*event));
  append(record);
  *event = std::get<Event>(std::move(record));
  if (!parts_.pair) return;
  // What has come in is in the shadow before the guest sees it, so that it need not come again after a
  // takeover: whoever sent it would notice only by a timer of its own that nobody has answered.
  if (!event->inputs.empty()) flush();
  Progression after = parts_.at;
  after.apply(*event);
  if (after.input_bytes != parts_.at.input_bytes || after.input_ended != parts_.at.input_ended)
    parts_.pair->input_logged(after.input_bytes, after.input_ended, after.lsn);
}

void Recorder::append(const Record& record) {
  if (!parts_.encoder) return;
  parts_.encoder->append(record);
  if (parts_.encoder->pending_bytes() >= kFrameBytes) flush();
}

void Recorder::flush() {
  if (!parts_.encoder) return;
  frame_ = parts_.encoder->take(std::move(frame_));
  if (frame_.empty()) return;
  if (parts_.log) {
    try {
      parts_.log->append(frame_, parts_.encoder->chain(), reached_);
    } catch (const Failure& failure) {
      // A pair has its log in the shadow's memory; alone, a log with a hole would lie.
      if (!parts_.pair) throw;
      parts_.log = nullptr;
      parts_.log_failed(failure);
    }
  }
  if (parts_.pair) parts_.pair->frame(frame_, parts_.encoder->last_lsn());
  const uint64_t before = std::exchange(logged_lsn_, parts_.encoder->last_lsn());
  if (logged_lsn_ != before) reached_ = {};
}

// The guest has come to this access without having been stopped on its way. The access may still bring an
// event: the shadow may run up to it, not past it.
void Recorder::tell_progress() {
  if (!parts_.pair || parts_.at.accesses == 0) return;
  const Progress here{parts_.at.lsn, parts_.at.accesses - 1};
  if (here == told_) return;
  told_ = here;
  parts_.pair->progress(here.lsn, here.accesses);
}

bool Recorder::output(uint8_t channel, std::span<const uint8_t> bytes) {
  flush();
  reached_ = {parts_.at.accesses, parts_.at.access_hash()};
  tell_progress();
  return parts_.world.output(channel, parts_.at.lsn, bytes);
}

Go Recorder::digest(const Digest& digest) {
  append(digest);
  return Go::kOn;
}

Go Recorder::end(const End& end) {
  append(end);
  flush();
  return Go::kOn;
}

bool Recorder::force_stop(Checkpoint* head) {
  if (!parts_.watchdog) return false;
  const std::optional<Watchdog::Bite> bite = parts_.watchdog->take_bite();
  if (!bite) return false;
  // Who only computes is stopped for the sake of a shadow that could not know how far it may follow.
  if (!bite->is_due && !(parts_.pair && (wants_state() || parts_.pair->status().is_protected))) return false;
  head->lsn = parts_.at.lsn + 1;
  head->accesses = parts_.at.accesses;
  head->access_hash = parts_.at.access_hash();
  head->time_us = parts_.clock.sample(parts_.at.time_us);
  // On a fixed course time passes only by what happens: the timer that is due is what happens next.
  if (bite->is_due && parts_.clock.is_fixed() && bite->timer_due_us != UINT64_MAX)
    head->time_us = std::max(head->time_us, bite->timer_due_us);
  return true;
}

void Recorder::stop_forced(std::vector<Checkpoint> parts) {
  const uint64_t before = counts().checkpoint_bytes;
  for (const Checkpoint& part : parts) append(part);
  if (!parts_.pair) return;
  flush();  // the shadow waits for it
  if (!parts_.watchdog) return;
  const uint64_t pause_ms = (counts().checkpoint_bytes - before) / kShadowBytesPerMs;
  parts_.watchdog->bite_after(std::clamp<uint64_t>(pause_ms, kShadowBehindMs, kShadowBehindMsMax));
}

void Recorder::closed() {
  // To the other side this is a plain loss: an End would have it stop too, instead of going on.
  if (parts_.pair) parts_.pair->stop();
  append(End{parts_.at.accesses, parts_.at.access_hash(), EndReason::kClosed, 0});
  flush();
}

void Recorder::saved(const MachineState& state, const Digest& digest) {
  flush();
  parts_.pair->saved({digest, parts_.at.time_us, parts_.encoder->chain(), encode_machine_state(state)});
}

void Recorder::took_over(uint64_t generation) {
  append(Takeover{parts_.at.lsn, generation});
  flush();
}

}  // namespace lockstep
