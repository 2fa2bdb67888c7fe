#include "link/link_stream.h"

#include <algorithm>
#include <utility>

#include "error.h"

namespace lockstep {

LinkStream::LinkStream(std::unique_ptr<Connection> connection, bool keeps, Packing packing)
    : keeps_(keeps),
      packing_(packing),
      packs_all_(packing == Packing::kAlways),
      identity_(connection->identity()),
      connection_(std::move(connection)) {}

void LinkStream::send(std::span<const uint8_t> message) {
  if (append(message, {})) connection_->send(message);
}

void LinkStream::send(std::span<const uint8_t> head, std::span<const uint8_t> body, const char* place) {
  if (append(head, body)) connection_->send(head, body, place);
}

// Whether it may go to the connection at once, as it is.
bool LinkStream::append(std::span<const uint8_t> head, std::span<const uint8_t> body) {
  if (!keeps_ && packing_ == Packing::kNever) return true;
  const bool in_turn = connection_ && unsent() == 0;
  kept_.insert(kept_.end(), head.begin(), head.end());
  kept_.insert(kept_.end(), body.begin(), body.end());
  if (!in_turn) return false;
  if (packs_all_) {
    flush();
    return false;
  }
  hand(head.size() + body.size());
  return true;
}

void LinkStream::path_is_slow(bool slow, uint64_t now_us) {
  if (packing_ != Packing::kWaiting) return;
  if (slow) slow_until_us_ = now_us + kSlowUs;
  packs_all_ = now_us < slow_until_us_;
}

void LinkStream::hand(size_t bytes) {
  handed_ += bytes;
  const size_t kept_max = keeps_ ? kKeptBytesMax : 0;
  if (handed_ - begin_ > kept_max) forget(handed_ - kept_max);
}

// A message that waits as a whole, and is small, goes as it is; so does all where nothing is compressed.
void LinkStream::hand_piece() {
  const auto piece = waiting().first(std::min(waiting().size(), kPieceBytesMax));
  const bool ends = piece.size() == waiting().size();
  if (packing_ == Packing::kNever || (ends && !cuts_message_ && piece.size() < kPackBytesMin)) {
    connection_->send(piece);
  } else {
    if (!packer_) packer_.emplace();
    connection_->send(
        encode_link(link_message::Packed{static_cast<uint32_t>(piece.size()), packer_->pack(piece)}));
  }
  cuts_message_ = !ends;
  hand(piece.size());
}

std::span<const uint8_t> LinkStream::waiting() const {
  return std::span(kept_).subspan(skipped_ + static_cast<size_t>(handed_ - begin_));
}

size_t LinkStream::unsent() const { return waiting().size() + (connection_ ? connection_->unsent() : 0); }

void LinkStream::flush() {
  if (!connection_) return;
  connection_->flush();
  while (connection_->unsent() == 0 && !waiting().empty()) hand_piece();
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
  const size_t used = std::exchange(used_, 0);
  used_unpacked_ ? void(unpacked_start_ += used) : connection_->consume(used);
  for (;;) {
    const auto unpacked = std::span(unpacked_).subspan(unpacked_start_);
    used_ = parse_link(unpacked, message);
    used_unpacked_ = used_ > 0;
    if (used_unpacked_) break;
    used_ = parse_link(connection_->unread(), message);
    if (used_ == 0) return false;
    const auto* packed = std::get_if<link_message::Packed>(message);
    if (packed == nullptr) {
      if (!unpacked.empty())
        throw Failure("ERR_LOCKSTEP_LINK_DAMAGED", "The other side of the link broke off a message.");
      break;
    }
    unpacked_.erase(unpacked_.begin(), unpacked_.begin() + static_cast<ptrdiff_t>(unpacked_start_));
    unpacked_start_ = 0;
    if (!unpacker_) unpacker_.emplace();
    unpacker_->unpack(packed->bytes, packed->plain_bytes, &unpacked_);
    connection_->consume(std::exchange(used_, 0));
  }
  taken_ += used_;
  return true;
}

void LinkStream::peer_took(uint64_t bytes) {
  if (!keeps_) return;
  if (bytes > handed_) throw Failure("ERR_LOCKSTEP_LINK_DAMAGED", "The other side took what was never sent.");
  if (bytes > begin_) forget(bytes);
}

void LinkStream::part() {
  connection_.reset();
  begin_connection();
}

void LinkStream::begin_connection() {
  packer_.reset();
  unpacker_.reset();
  unpacked_.clear();
  unpacked_start_ = used_ = 0;
  used_unpacked_ = cuts_message_ = false;
}

void LinkStream::resume(std::unique_ptr<Connection> connection, uint64_t peer_took) {
  connection_ = std::move(connection);
  begin_connection();
  forget(peer_took);
  handed_ = peer_took;
  flush();
}

}  // namespace lockstep
