// The pair's own thread: one poll(2) loop that sleeps until something happens. It reads both sockets, keeps
// the timers, and carries out what the fence decides.
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "error.h"
#include "fault_point.h"
#include "link/pair_impl.h"
#include "sandbox.h"

namespace lockstep {

namespace {
constexpr uint64_t kAnnounceGapUs = 10'000, kAnnounceGapUsMax = 4'000'000;
constexpr uint64_t kPathLookUs = 5'000;  // the kernel counts in milliseconds, and asking costs a system call
}  // namespace

void PairImpl::start() {
  // Signals belong to the process's own threads.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void PairImpl::run() {
  pthread_setname_np(pthread_self(), "lockstep-pair");
  if (options_.security.confined) confine_thread(Duty::kPair);
  Lock lock(mutex_);
  if (link_listener_) note(PairNotice::kListening, "The link listens on " + options_.link_address + ".");
  note(PairNotice::kListening, "The console listens on " + options_.console_address + ".");
  if (link_) {
    note(PairNotice::kConnected, "Connected to the primary at " + options_.link_address + ".");
    watch_afresh();
    read_link(lock, /*is_first=*/true);  // frames may have come along with the header
  }
  while (!stopped_) {
    work_for_arbiter(lock);
    if (fence_.phase == FencePhase::kFenced) console_->close();
    tell_listener(lock);
    send_memory(lock);
    if (!stopped_) wait_and_serve(lock);
  }
  link_.reset();
  end_call();
  end_witness();
  callers_.clear();
  link_listener_.reset();
  console_->close();
  tell_listener(lock);
  loop_left_ = true;
  changed_.notify_all();
}

int PairImpl::poll_timeout_ms(uint64_t now) const {
  uint64_t next = UINT64_MAX;
  if (link_) next = joined_ ? heartbeat_at_us_ : now + uint64_t{options_.heartbeat_ms} * 1000;
  if (link_ && link_->is_parted()) {
    next = std::min(next, grace_.due_us());
    if (!role_live_) next = std::min(next, call_at_us_);
  } else if (link_ && knows_peer()) {
    next = std::min({next, path_.due_us(), another_path_due_us(now)});
  }
  if (!callers_.empty()) next = std::min(next, callers_.front().until_us);
  if (retry_at_us_ != 0) next = std::min(next, retry_at_us_);
  if (announce_at_us_ != 0) next = std::min(next, announce_at_us_);
  if (listen_at_us_ != 0) next = std::min(next, listen_at_us_);
  if (sends_memory_now() || resume_reading_) return 0;
  if (std::any_of(callers_.begin(), callers_.end(), [this](const Caller& c) { return may_greet(c); }))
    return 0;
  if (next == UINT64_MAX) return -1;
  return next <= now ? 0 : static_cast<int>((next - now + 999) / 1000);
}

void PairImpl::wait_and_serve(Lock& lock) {
  std::vector<pollfd> fds{{wake_fd_, POLLIN, 0}};
  fds.push_back({link_listener_ ? link_listener_->fd() : -1, POLLIN, 0});
  // While the replayer is far behind, the link is left alone: what the primary sends stays in its own hands.
  bool listening = link_ && !(!role_live_ && reading_is_paused());
  short events = static_cast<short>(POLLIN | (link_ && link_->unsent() > 0 ? POLLOUT : 0));
  fds.push_back({listening ? link_->fd() : -1, events, 0});
  if (link_ && !listening) silence_.heard(now_us());
  fds.push_back(call_poll());
  fds.push_back(witness_poll());
  const size_t callers_at = fds.size(), callers = callers_.size();
  for (const Caller& caller : callers_) fds.push_back({caller.connection->fd(), POLLIN, 0});
  console_->add_to(&fds);
  int timeout = poll_timeout_ms(now_us());
  asked_us_ = timeout < 0 ? 0 : static_cast<uint64_t>(timeout) * 1000;
  lock.unlock();
  if (poll(fds.data(), fds.size(), timeout) < 0) {
    for (pollfd& p : fds) p.revents = 0;
  }
  lock.lock();
  if (fds[0].revents) {
    uint64_t count;
    (void)!::read(wake_fd_, &count, sizeof count);
  }
  if (link_ && (fds[2].revents & POLLOUT)) {
    link_->flush();
    if (link_->unsent() == 0 && !role_live_) send_ack();
  }
  if (link_ && std::exchange(resume_reading_, false)) read_link(lock, /*is_first=*/true);
  if (link_ && (fds[2].revents & ~POLLOUT)) read_link(lock, false);
  if (fds[3].revents) answer_ ? hear_answer(lock) : step_call();
  if (fds[4].revents) serve_witness();
  hear_callers(std::span(fds).subspan(callers_at, callers));
  if (link_listener_ && fds[1].revents) accept_link();
  console_->serve(std::span(fds).subspan(callers_at + callers));
  auto changes = console_->take_changes();
  if (changes.lost) {
    note(PairNotice::kConsoleLost, changes.why);
    ledger_.wake();
  }
  if (changes.connected) {
    note(PairNotice::kConsoleConnected);
    told_unread_ = false;
  }
  pump_console();
  send_released();
  if (ack_wanted_.exchange(false)) send_ack();
  timers();
  changed_.notify_all();
}

void PairImpl::read_link(Lock& lock, bool is_first) {
  auto filled = is_first ? Connection::Fill::kBytes : link_->fill();
  if (filled == Connection::Fill::kNothing) return;
  if (filled == Connection::Fill::kBytes) silence_.heard(now_us());
  try {
    LinkMessage message;
    while (!loading_ && link_->next(&message)) {
      if (role_live_) {
        handle_from_shadow(message);
      } else {
        handle_from_primary(lock, message);
      }
      if (!link_) return;  // the message was a reason to hang up
    }
  } catch (const Failure& failure) {
    lose_link(failure.what());
    return;
  }
  // One acknowledgement for all that one read brought.
  if (!role_live_) send_ack();
  if (filled != Connection::Fill::kClosed) return;
  if (link_->was_reset() && outlasts_reset()) {
    part_link("The link was reset.");
  } else {
    lose_link("The other side closed the link.");
  }
}

void PairImpl::timers() {
  uint64_t now = now_us();
  uint64_t heartbeat_us = uint64_t{options_.heartbeat_ms} * 1000;
  if (link_) link_->is_parted() ? watch_grace(now) : watch_peer(now);
  call_witness(now);
  watch_lag(now);
  if (link_ && knows_peer() && now >= heartbeat_at_us_) {
    heartbeat_at_us_ = now + heartbeat_us;
    if (!role_live_ && options_.hear_frames) options_.hear_frames();
    if (role_live_) {
      // Behind a backlog a heartbeat would tell nothing: the backlog itself is heard.
      if (link_->unsent() == 0) send_link(link_message::Heartbeat{now, false, link_->taken()});
    } else if (now - sent_at_us_ >= heartbeat_us || executed_lsn_ != last_ack_.executed) {
      send_ack();
    }
  }
  if (retry_at_us_ != 0 && now >= retry_at_us_) {
    retry_at_us_ = 0;
    fence(FenceEvent::kTimer);
    try_to_arm();
  }
  if (announce_at_us_ != 0 && now >= announce_at_us_) announce();
  if (listen_at_us_ != 0 && now >= listen_at_us_) listen_again();
}

// Nobody waits for a shadow that does not stand by yet, and hosts are at their busiest while it starts.
bool PairImpl::is_awaited() const {
  switch (fence_.phase) {
    case FencePhase::kFollowing: return false;
    case FencePhase::kSolo:
    case FencePhase::kWon:
    case FencePhase::kArming: return peer_ready_ && started_;
    default: return true;
  }
}

uint64_t PairImpl::silence_us() const {
  return is_awaited() ? uint64_t{options_.silence_ms} * 1000 : kJoinSilenceUs;
}

uint64_t PairImpl::cut_us() const {
  const uint64_t cut_us = uint64_t{options_.cut_ms} * 1000;
  return is_awaited() ? cut_us : std::max(cut_us, kJoinCutUs);
}

// What has been heard until now counts for no more; from here on by the patience of this phase.
void PairImpl::watch_afresh() {
  silence_.restart(now_us(), silence_us());
  path_.restart(now_us(), cut_us());
}

// A process that stands still is silent; a host that was cut off, or is dead, does not even acknowledge. The
// second is no matter of scheduling, and so is believed much sooner.
void PairImpl::watch_peer(uint64_t now) {
  if (knows_peer() && (now - path_looked_us_ >= kPathLookUs || now >= path_.due_us())) {
    path_looked_us_ = now;
    const Path path = look_at_path(link_->fd());
    const uint64_t quiet_us = path.silence_us;
    link_->path_is_slow(path.queues, now);
    silence_.round_trip(path.round_trip_us);
    if (quiet_us == 0) path_.restart(now, cut_us());
    path_.heard(now - quiet_us);
    if (!role_live_) seek_another_path(now, quiet_us);
    if (path_.silent(now, asked_us_)) {
      if (standby_ && outlasts_reset()) {
        part_link("The link carried nothing any more.");
        return;
      }
      fence(FenceEvent::kSilence,
            "The other side's host has acknowledged nothing for " + std::to_string(cut_us() / 1000) + " ms.");
      return;
    }
  }
  if (silence_.silent(now, asked_us_)) {
    fence(FenceEvent::kSilence,
          "Nothing was heard from the other side for " + std::to_string(silence_.limit_us() / 1000) + " ms.");
  }
}

// At once, then at ever longer intervals.
void PairImpl::announce() {
  if (!options_.announce) return;
  options_.announce();
  announce_at_us_ = announce_gap_us_ > kAnnounceGapUsMax ? 0 : now_us() + announce_gap_us_;
  announce_gap_us_ *= 2;
}

void PairImpl::lose_link(const std::string& why) { fence(FenceEvent::kLinkLost, why); }

void PairImpl::fence(FenceEvent event, const std::string& why) {
  const FencePhase before = fence_.phase;
  auto [after, actions] = fence_step(fence_, event);
  fence_ = after;
  bool watched =
      before == FencePhase::kProtected || before == FencePhase::kArmed || before == FencePhase::kFollowing;
  const bool lost = event == FenceEvent::kLinkLost || event == FenceEvent::kSilence;
  if ((lost || event == FenceEvent::kTooLate) && watched) {
    note(PairNotice::kSuspected, why);
  }
  // The fence has no reason to care, but whoever waits for protection has.
  const bool joining =
      link_ && knows_peer() &&
      (before == FencePhase::kSolo || before == FencePhase::kArming || before == FencePhase::kWon);
  if (lost && joining) note(PairNotice::kJoinLost, why);
  if (actions & kHoldOutput) ledger_.set_limit(mark_acked_);
  if (actions & kStopAcknowledging) acknowledging_ = false;
  if (actions & kCloseLink) {
    link_.reset();
    end_call();
    end_witness();
    joined_ = peer_ready_ = false;
    cancel_join();
    // It was never armed, and so cannot claim.
    if (std::exchange(holds_to_arm_, false) && !is_held()) {
      ledger_.set_limit(OutputLedger::kAll);
      commit_input();
      pump_console();
    }
  }
  if (event == FenceEvent::kArmUnreachable || event == FenceEvent::kClaimUnreachable) {
    note(PairNotice::kArbiterUnreachable, why);
  }
  if (event == FenceEvent::kClaimLost) note(PairNotice::kClaimLost);
  if (actions & kGiveUp) {
    if (before == FencePhase::kFollowing && lost)
      fenced_why_ = "The primary was lost before this side was armed. " + why;
    note(PairNotice::kFenced, fenced_why_);
    halt_ = true;  // the loop closes the console: descriptors it may be polling are its own to close
    ledger_.wake();
  }
  if (actions & kReleaseAll) {
    holds_to_arm_ = false;
    if (fence_.phase == FencePhase::kWon) {
      fault_point("claim-won");
      went_alone();
    } else {
      ledger_.set_limit(OutputLedger::kAll);
      commit_input();
      pump_console();
    }
  }
  if (actions & kSendArmed) {
    holds_to_arm_ = false;
    was_protected_ = true;
    watch_afresh();
    send_link(link_message::Armed{fence_.generation + 1});
  }
  if (before != fence_.phase &&
      (fence_.phase == FencePhase::kProtected || fence_.phase == FencePhase::kArmed)) {
    note(PairNotice::kArmed);
  }
  if (actions & kSendHandOver) send_link(link_message::HandOver{});
  if (actions & kStartTimer) retry_at_us_ = now_us() + uint64_t{fence_.backoff_ms} * 1000;
  if (actions & kArm) work_ = ArbiterWork::kArm;
  if (actions & kClaim) {
    note(PairNotice::kClaiming);
    work_ = ArbiterWork::kClaim;
  }
  changed_.notify_all();
}

// The generation is won: nobody else will ever speak for this machine, so all that is held may leave.
void PairImpl::went_alone() {
  note(PairNotice::kClaimWon);
  console_->clear_first_output();
  awaiting_first_output_ = true;
  ledger_.set_limit(OutputLedger::kAll);
  hands_over_ = false;
  if (role_live_) {
    console_->set_generation(fence_.generation);
    note(PairNotice::kAlone);
  } else {
    role_live_ = true;
    mark_sent_ = 0;
    lsn_sent_ = lsn_received_;
    console_->go_live(fence_.generation, input_received_, input_ended_);
    announce_gap_us_ = kAnnounceGapUs;
    announce();
  }
  commit_input();
  pump_console();
}

void PairImpl::work_for_arbiter(Lock& lock) {
  while (work_ != ArbiterWork::kNone && !stopped_) {
    bool is_claim = std::exchange(work_, ArbiterWork::kNone) == ArbiterWork::kClaim;
    uint64_t generation = fence_.generation + 1;
    std::string shadow_id = shadow_id_;
    FenceEvent answer = is_claim ? FenceEvent::kClaimUnreachable : FenceEvent::kArmUnreachable;
    std::string why = "The arbiter cannot be reached or written to.";
    lock.unlock();
    try {
      if (!is_claim) {
        if (options_.arbiter->arm(options_.pair_id, generation, shadow_id)) answer = FenceEvent::kArmRecorded;
      } else {
        Claim claim = options_.arbiter->claim(options_.pair_id, generation, claim_id_);
        if (claim == Claim::kWon) answer = FenceEvent::kClaimWon;
        if (claim == Claim::kLost) answer = FenceEvent::kClaimLost;
      }
    } catch (const std::exception& error) {
      why = error.what();
    }
    lock.lock();
    fence(answer, why);
  }
}

void PairImpl::note(PairNotice notice, std::string detail) {
  notices_.push_back(
      {notice, now_us(), role_live_ ? lsn_sent_ : lsn_received_, fence_.generation, std::move(detail)});
}

void PairImpl::tell_listener(Lock& lock) {
  auto notices = std::exchange(notices_, {});
  if (notices.empty() || !listener_) return;
  telling_ = true;
  lock.unlock();
  for (const PairEvent& event : notices) listener_(event);
  lock.lock();
  telling_ = false;
  changed_.notify_all();
}

void PairImpl::wake() {
  uint64_t one = 1;
  (void)!::write(wake_fd_, &one, sizeof one);
}

}  // namespace lockstep
