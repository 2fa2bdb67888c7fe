// A second connection beside a TCP link, over which nothing goes. Linux resets a connection that is closed
// with something unread in it, and a shadow that is killed at work has something unread: to its primary that
// looks like a firewall that forgot the link. This one ends in order when its process does. Without it, for
// whatever reason, a dead shadow is waited for as long as a link that may come back.
//
// A shadow that lives ends one, too, once its link was made anew; and what stands between may bring word of
// one, and its end, long after: so it is numbered (link_message.h).
#include <utility>

#include "error.h"
#include "link/pair_impl.h"

namespace lockstep {

using namespace link_message;

namespace {
constexpr uint64_t kCallAgainUs = 1'000'000;
}

pollfd PairImpl::witness_poll() const {
  if (witness_) return {witness_->fd(), POLLIN, 0};
  if (witness_call_) return {witness_call_->fd(), witness_call_->events(), 0};
  return {-1, 0, 0};
}

void PairImpl::end_witness() {
  witness_.reset();
  witness_call_.reset();
  witness_closed_ = false;
}

// The shadow's part, which is all that a shadow does for it.
void PairImpl::call_witness(uint64_t now) {
  if (role_live_ || witness_ || now < witness_at_us_ || !outlasts_reset() || link_->is_parted()) return;
  witness_at_us_ = now + kCallAgainUs;
  witness_call_.emplace(*primary_at_, options_.security);
  serve_witness();
}

void PairImpl::take_witness(std::unique_ptr<Connection> connection, const Witness& witness) {
  if (!is_ours(witness.link, *connection) || witness.number <= call_number_) return;
  call_number_ = witness.number;
  witness_ = std::move(connection);
  witness_closed_ = false;
  // A shadow that can connect is not cut off: it may be about to give up a connection that carries nothing.
  path_.restart(now_us(), cut_us());
  hear_witness();
}

void PairImpl::send_witness(Connection& connection) {
  connection.send(encode_link(Witness{link_name(), ++call_number_}));
}

void PairImpl::serve_witness() {
  if (witness_call_) {
    const Reconnect::State state = witness_call_->step();
    if (state == Reconnect::State::kGoesOn) return;
    if (state == Reconnect::State::kDone) {
      witness_ = std::make_unique<Connection>(witness_call_->take());
      send_witness(*witness_);
    }
    witness_call_.reset();
    return;
  }
  if (!witness_) return;
  if (witness_->fill() != Connection::Fill::kClosed) {
    hear_witness();
    return;
  }
  witness_closed_ = role_live_ && !witness_->was_reset();
  witness_.reset();
  if (witness_closed_ && link_ && link_->is_parted())
    lose_link(parted_why_ + " The shadow's process is gone.");
}

// It may become the link. Nothing else is to be heard from it.
void PairImpl::hear_witness() {
  LinkMessage message;
  size_t used = 0;
  try {
    used = parse_link(witness_->unread(), &message);
  } catch (const Failure&) {
    witness_.reset();
    return;
  }
  if (used == 0) return;
  witness_->consume(used);
  const auto* resume = std::get_if<Resume>(&message);
  if (resume && role_live_) {
    take_back(std::move(witness_), *resume);
  } else {
    witness_.reset();
  }
}

}  // namespace lockstep
