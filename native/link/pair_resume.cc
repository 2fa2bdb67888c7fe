// A link whose connection was reset, by a firewall or whatever stands between, comes back on another one. The
// fence hears of none of this: for it the link is slow for a moment, and is lost when the grace is over.
// Nothing leaves meanwhile, because nothing is acknowledged, and nobody claims.
//
//   shadow                                          primary
//     RESUME pair, shadow, generation, taken  ----->  is it the shadow of this very link?
//     <------------------------------ RESUMED taken   both send again from what the other has taken
//
// A process that was killed must not be waited for. A connection that ends without a reset was closed by its
// process; a call that is refused means that nobody listens there any more. A primary, which calls nobody,
// has a witness (pair_witness.cc).
#include <algorithm>
#include <utility>

#include "error.h"
#include "fault_point.h"
#include "link/pair_impl.h"

namespace lockstep {

using namespace link_message;

namespace {
constexpr uint64_t kCallUs = 200'000;    // so long a call may take before another is tried
constexpr uint64_t kCallAgainUs = 2000;  // after one that failed
constexpr uint64_t kRoundTrips = 4;      // to connect, shake hands, and be answered; beside the grace
}  // namespace

std::unique_ptr<LinkStream> PairImpl::make_link(std::unique_ptr<Connection> connection) {
  using Compress = PairOptions::Compress;
  Packing packing = options_.compress == Compress::kAlways ? Packing::kAlways : Packing::kNever;
  // The fastest of networks, and the only slow thing in it is the processor that would compress.
  if (options_.compress == Compress::kAuto && leads_away(connection->fd())) {
    packing = Packing::kWaiting;
    wait_outside(connection->fd());
  }
  const bool keeps =
      options_.grace_ms > 0 && (role_live_ ? is_tcp(connection->fd()) : primary_at_.has_value());
  return std::make_unique<LinkStream>(std::move(connection), keeps, packing);
}

bool PairImpl::outlasts_reset() const {
  if (!link_ || !link_->keeps() || parting_) return false;
  const FencePhase phase = fence_.phase;
  // A shadow that has not heard of the end would go on from there, and a primary waits for its answer.
  if (phase == FencePhase::kEnded) return !role_live_ || !peer_ended_;
  return phase != FencePhase::kClaiming && phase != FencePhase::kRetrying && phase != FencePhase::kFenced;
}

// A primary waits longer: its shadow may notice only when it next says something.
void PairImpl::part_link(const std::string& why) {
  parted_at_us_ = now_us();
  parted_why_ = why;
  const uint64_t round_trips_us = kRoundTrips * look_at_path(link_->fd()).round_trip_us;
  link_->part();
  witness_call_.reset();  // it would be newer than the Resume that ends it
  const uint32_t grace_ms = options_.grace_ms + (role_live_ ? options_.heartbeat_ms : 0);
  grace_.restart(parted_at_us_, std::min(grace_ms * 1000ull + round_trips_us, options_.silence_ms * 1000ull));
  fault_point("link-parted");
  if (witness_closed_) {
    lose_link(why + " The shadow's process is gone.");
    return;
  }
  if (standby_) {
    ask_to_resume(std::move(standby_));
  } else if (!role_live_ && !call_) {
    call_primary();
  }
}

void PairImpl::link_resumed() {
  const uint64_t now = now_us();
  end_call();
  end_witness();  // what befell the link may have befallen it
  witness_at_us_ = 0;
  watch_afresh();
  heartbeat_at_us_ = 0;
  const uint64_t lost_us = parted_at_us_ == 0 ? 0 : now - std::exchange(parted_at_us_, 0);
  note(PairNotice::kResumed, parted_why_ + " It goes on after " + std::to_string(lost_us / 1000) + " ms.");
}

void PairImpl::watch_grace(uint64_t now) {
  if (grace_.silent(now, asked_us_)) {
    lose_link(parted_why_ + " It did not come back.");
  } else if (!role_live_ && now >= call_at_us_) {
    call_primary();
  }
}

// ---- the live side

bool PairImpl::is_ours(const LinkName& name, const Connection& connection) const {
  return outlasts_reset() && name == link_name() && connection.identity() == link_->identity();
}

void PairImpl::take_back(std::unique_ptr<Connection> connection, const Resume& resume) {
  const bool ours = is_ours(resume.link, *connection);
  if (ours && resume.number <= call_number_) return;
  if (!ours || !link_->can_resume(resume.taken)) {
    connection->send(encode_link(Refused{"There is no link to go on with."}));
    return;
  }
  // The shadow may have noticed what this side has not.
  end_witness();
  if (!link_->is_parted()) part_link("The link was made anew by the shadow.");
  call_number_ = resume.number;
  connection->send(encode_link(Resumed{link_->taken()}));
  link_->resume(std::move(connection), resume.taken);
  link_resumed();
}

// ---- the shadow

pollfd PairImpl::call_poll() const {
  if (answer_) return {answer_->fd(), POLLIN, 0};
  if (call_) return {call_->fd(), call_->events(), 0};
  return {-1, 0, 0};
}

void PairImpl::end_call() {
  call_.reset();
  answer_.reset();
  standby_.reset();
}

// A firewall that forgets a connection may swallow it without a word. So another one is made before this one
// is given up, and stands by; the primary hears of it, and waits. A link that recovers goes on as it was,
// with one more witness. What comes of it costs no time if the primary is out of reach for good.
void PairImpl::seek_another_path(uint64_t now, uint64_t quiet_us) {
  if (!outlasts_reset()) return;
  if (quiet_us < uint64_t{options_.cut_ms} * 1000 / 2) {
    if (standby_) witness_ = std::move(standby_);
    end_call();
  } else if (!standby_ && now >= call_at_us_) {
    call_primary();
  }
}

uint64_t PairImpl::another_path_due_us(uint64_t now) const {
  const uint64_t due = path_.due_us() - uint64_t{options_.cut_ms} * 1000 / 2;
  return role_live_ || due <= now ? UINT64_MAX : due;
}

void PairImpl::call_primary() {
  end_call();
  call_at_us_ = now_us() + kCallUs;
  call_.emplace(*primary_at_, options_.security);
  step_call();
}

void PairImpl::step_call() {
  if (!call_ || !link_) return;
  const Reconnect::State state = call_->step();
  if (state == Reconnect::State::kGoesOn) return;
  std::unique_ptr<Connection> connection;
  if (state == Reconnect::State::kDone) connection = std::make_unique<Connection>(call_->take());
  end_call();
  if (connection && connection->identity() == link_->identity()) {
    if (link_->is_parted()) {
      ask_to_resume(std::move(connection));
    } else {
      send_witness(*connection);
      standby_ = std::move(connection);
    }
  } else if (state == Reconnect::State::kRefused && link_->is_parted()) {
    lose_link(parted_why_ + " The primary is gone.");
  } else {
    call_at_us_ = now_us() + kCallAgainUs;
  }
}

void PairImpl::ask_to_resume(std::unique_ptr<Connection> connection) {
  answer_ = std::move(connection);
  call_at_us_ = now_us() + kCallUs;
  answer_->send(encode_link(Resume{link_name(), ++call_number_, link_->taken()}));
}

void PairImpl::hear_answer(Lock& lock) {
  const auto filled = answer_->fill();
  LinkMessage message;
  size_t used = 0;
  try {
    used = parse_link(answer_->unread(), &message);
  } catch (const Failure&) {
    end_call();  // whoever that was; the primary may still answer
  }
  if (used == 0) {
    if (answer_ && filled != Connection::Fill::kClosed) return;
    end_call();
    call_at_us_ = now_us() + kCallAgainUs;
    return;
  }
  const auto* resumed = std::get_if<Resumed>(&message);
  if (!resumed || !link_->can_resume(resumed->taken)) {
    lose_link(parted_why_ + " The primary does not go on with it.");
    return;
  }
  answer_->consume(used);
  link_->resume(std::move(answer_), resumed->taken);
  link_resumed();
  read_link(lock, /*is_first=*/true);  // what may have come along with the answer
}

}  // namespace lockstep
