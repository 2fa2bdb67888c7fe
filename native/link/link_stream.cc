#include "link/link_stream.h"

#include <algorithm>
#include <utility>

#include "error.h"

namespace lockstep {

LinkStream::LinkStream(std::unique_ptr<Connection> connection, bool keeps)
    : keeps_(keeps), identity_(connection->identity()), connection_(std::move(connection)) {}

void LinkStream::send(std::span<const uint8_t> message) {
  if (append(message, {})) connection_->send(message);
}

void LinkStream::send(std::span<const uint8_t> head, std::span<const uint8_t> body, const char* place) {
  if (append(head, body)) connection_->send(head, body, place);
}

// Whether it may go to the connection at once.
bool LinkStream::append(std::span<const uint8_t> head, std::span<const uint8_t> body) {
  if (!keeps_) return true;
  const bool in_turn = connection_ && unsent() == 0;
  kept_.insert(kept_.end(), head.begin(), head.end());
  kept_.insert(kept_.end(), body.begin(), body.end());
  if (in_turn) hand(head.size() + body.size());
  return in_turn;
}

void LinkStream::hand(size_t bytes) {
  handed_ += bytes;
  if (handed_ - begin_ > kKeptBytesMax) forget(handed_ - kKeptBytesMax);
}

std::span<const uint8_t> LinkStream::waiting() const {
  return std::span(kept_).subspan(skipped_ + static_cast<size_t>(handed_ - begin_));
}

size_t LinkStream::unsent() const { return waiting().size() + (connection_ ? connection_->unsent() : 0); }

void LinkStream::flush() {
  if (!connection_) return;
  connection_->flush();
  while (connection_->unsent() == 0 && !waiting().empty()) {
    const auto piece = waiting().first(std::min(waiting().size(), kPieceBytes));
    connection_->send(piece);
    hand(piece.size());
  }
}

void LinkStream::forget(uint64_t before) {
  skipped_ += static_cast<size_t>(before - begin_);
  begin_ = before;
  if (skipped_ == kept_.size()) {
    kept_.clear();
    skipped_ = 0;
  } else if (skipped_ > kept_.size() / 2) {
    kept_.erase(kept_.begin(), kept_.begin() + static_cast<ptrdiff_t>(skipped_));
    skipped_ = 0;
  }
}

bool LinkStream::next(LinkMessage* message) {
  if (!connection_) return false;
  connection_->consume(std::exchange(used_, 0));
  used_ = parse_link(connection_->unread(), message);
  taken_ += used_;
  return used_ > 0;
}

void LinkStream::peer_took(uint64_t bytes) {
  if (!keeps_) return;
  if (bytes > handed_) throw Failure("ERR_LOCKSTEP_LINK_DAMAGED", "The other side took what was never sent.");
  if (bytes > begin_) forget(bytes);
}

void LinkStream::part() {
  connection_.reset();
  used_ = 0;
}

void LinkStream::resume(std::unique_ptr<Connection> connection, uint64_t peer_took) {
  connection_ = std::move(connection);
  used_ = 0;
  forget(peer_took);
  handed_ = peer_took;
  flush();
}

}  // namespace lockstep
