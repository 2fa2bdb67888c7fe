// Speaking to a shadow: frames out, acknowledgements in, and arming it.
#include <utility>

#include "error.h"
#include "fault_point.h"
#include "link/pair_impl.h"

namespace lockstep {

using namespace link_message;

bool PairImpl::wait_protected() {
  Lock lock(mutex_);
  changed_.wait(lock, [&] { return is_over() || was_protected_ || options_.alone; });
  return !is_over();
}

void PairImpl::frame(std::span<const uint8_t> frame, uint64_t lsn) {
  auto head = frame_head(frame.size());
  Lock lock(mutex_);
  started_ = true;
  // What the guest did from here on would be forgotten; if its shadow does not come to it, it goes on.
  changed_.wait(lock, [&] { return is_over() || fence_.phase != FencePhase::kHandingOver; });
  // A digest belongs to the event before it, which the shadow cannot leave without.
  if (lsn > lsn_sent_) keep_pace(lock, frame.size());
  // Marks go on without a link as well: what is made now must not pass for something acknowledged.
  log_bytes_ += frame.size();
  lsn_sent_ = lsn;
  mark_sent_++;
  if (!joined_ || is_over()) return;
  lag_.sent(log_bytes_, now_us());
  bool was_empty = link_->unsent() == 0;
  link_->send(head, frame, "link-write");
  if (was_empty && link_->unsent() > 0) wake();
}

// The guest waits here, past its first bound, for a shadow that is behind.
void PairImpl::keep_pace(Lock& lock, size_t frame_bytes) {
  if (!joined_ || is_over()) return;
  const uint64_t now = now_us();
  const uint64_t pause_us = lag_.pause_us(frame_bytes, now);
  if (pause_us == 0) {
    slowed_ = false;
    return;
  }
  if (!std::exchange(slowed_, true)) {
    note(PairNotice::kSlowed, "The shadow is " + std::to_string(lag_.age_us(now) / 1000) + " ms and " +
                                  std::to_string(lag_.bytes()) + " bytes of log behind.");
    wake();
  }
  changed_.wait_until(lock, at_us(now + pause_us),
                      [&] { return is_over() || !joined_ || !lag_.is_late(now_us()); });
}

// Past the second bound the pair goes on without its shadow, which may join again.
void PairImpl::watch_lag(uint64_t now) {
  const bool stands_by = fence_.phase == FencePhase::kProtected;
  const bool waits = fence_.phase == FencePhase::kSolo || fence_.phase == FencePhase::kWon;
  if (!role_live_ || !joined_ || !(stands_by || waits) || !lag_.is_lost(now)) return;
  const std::string why = "The shadow is " + std::to_string(lag_.age_us(now) / 1000) + " ms and " +
                          std::to_string(lag_.bytes()) + " bytes of log behind.";
  note(PairNotice::kDropped, why);
  if (stands_by) {
    fence(FenceEvent::kTooLate, why);
  } else {
    lose_link(why);
  }
}

void PairImpl::progress(uint64_t lsn, uint64_t accesses) {
  Lock lock(mutex_);
  started_ = true;
  mark_sent_++;
  if (!joined_ || is_over()) return;
  bool was_empty = link_->unsent() == 0;
  send_link(ProgressTo{{lsn, accesses}});
  if (was_empty && link_->unsent() > 0) wake();
}

void PairImpl::handle_from_shadow(const LinkMessage& message) {
  if (const auto* ack = std::get_if<Ack>(&message)) {
    link_->peer_took(ack->taken);
    acknowledged(*ack);
  } else if (std::get_if<Ready>(&message)) {
    if (!joined_) throw Failure("ERR_LOCKSTEP_LINK_DAMAGED", "The shadow is ready without a state.");
    peer_ready_ = true;
    lag_.forgive(now_us());
    watch_afresh();
    try_to_arm();
  } else if (const auto* beat = std::get_if<Heartbeat>(&message)) {
    link_->peer_took(beat->taken);
    if (beat->is_reply) round_trip_us_ = static_cast<double>(now_us() - std::min(now_us(), beat->time_us));
  } else if (const auto* diverged = std::get_if<Diverged>(&message)) {
    note(PairNotice::kDiverged, diverged->what);
    lose_link("The shadow diverged.");
  } else if (std::get_if<Ended>(&message)) {
    peer_ended_ = true;
  } else {
    throw Failure("ERR_LOCKSTEP_LINK_DAMAGED", "The shadow sent what only a primary may.");
  }
}

void PairImpl::acknowledged(const Ack& ack) {
  if (ack.received > lsn_sent_ || ack.mark > mark_sent_ || ack.executed_bytes > log_bytes_) {
    throw Failure("ERR_LOCKSTEP_LINK_DAMAGED", "The shadow acknowledged what was never sent.");
  }
  if (!joined_) return;  // while it joins: a sign of life
  lsn_acked_ = std::max(lsn_acked_, ack.received);
  mark_acked_ = std::max(mark_acked_, ack.mark);
  lsn_executed_ = std::max(lsn_executed_, ack.executed);
  executed_bytes_ = std::max(executed_bytes_, ack.executed_bytes);
  lag_.executed(executed_bytes_, now_us());
  if (fence_.phase == FencePhase::kProtected || fence_.phase == FencePhase::kArming || holds_to_arm_) {
    fault_point("ack-received");
    ledger_.set_limit(mark_acked_);
    commit_input();
    pump_console();
    fault_point("ack-used");
  }
  try_to_arm();
  changed_.notify_all();
}

// A shadow may only be armed once it has the log behind everything that was released while nobody waited for
// it.
void PairImpl::try_to_arm() {
  const bool alone = fence_.phase == FencePhase::kSolo || fence_.phase == FencePhase::kWon;
  if (!role_live_ || !peer_ready_ || !alone || fence_.timer) return;
  if (!std::exchange(holds_to_arm_, true)) ledger_.set_limit(mark_acked_);
  if (mark_acked_ >= free_mark_ && lsn_acked_ >= free_lsn_) fence(FenceEvent::kShadowReady);
}

void PairImpl::send_released() {
  if (!role_live_ || !joined_ || link_->unsent() > 0) return;
  for (uint8_t channel = 0; channel < kOutputChannels; channel++) {
    uint64_t start = ledger_.start(channel);
    if (start == released_sent_[channel]) continue;
    released_sent_[channel] = start;
    send_link(Released{channel, start});
  }
}

}  // namespace lockstep
