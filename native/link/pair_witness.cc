// A second connection beside a TCP link, over which nothing goes. Linux resets a connection that is closed
// with something unread in it, and a shadow that is killed at work has something unread: to its primary that
// looks like a firewall that forgot the link. This one ends in order when its process does. Without it, for
// whatever reason, a dead shadow is waited for as long as a link that may come back.
#include <utility>

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
  const bool is_ours = outlasts_reset() && witness.pair_id == options_.pair_id &&
                       witness.shadow_id == shadow_id_ && witness.generation == fence_.generation &&
                       connection->identity() == link_->identity();
  if (!is_ours) return;
  witness_ = std::move(connection);
  witness_closed_ = false;
}

void PairImpl::serve_witness() {
  if (witness_call_) {
    const Reconnect::State state = witness_call_->step();
    if (state == Reconnect::State::kGoesOn) return;
    if (state == Reconnect::State::kDone) {
      witness_ = std::make_unique<Connection>(witness_call_->take());
      witness_->send(encode_link(Witness{options_.pair_id, shadow_id_, fence_.generation}));
    }
    witness_call_.reset();
    return;
  }
  if (!witness_) return;
  if (witness_->fill() != Connection::Fill::kClosed) {
    witness_->consume(witness_->unread().size());
    return;
  }
  witness_closed_ = role_live_ && !witness_->was_reset();
  witness_.reset();
  if (witness_closed_ && link_ && link_->is_parted())
    lose_link(parted_why_ + " The shadow's process is gone.");
}

}  // namespace lockstep
