#include "memory/memory_sender.h"

#include <algorithm>

#include "memory/digest.h"
#include "memory/page_pieces.h"

namespace lockstep {

// Followed first, then listed: what is written between is sent twice, never not at all.
void MemorySender::begin() {
  memory_.follow_changes(true);
  memory_.take_changed();
  round_ = touched_pages(memory_);
  sent_ = 0;
  pages_sent_ = 0;
}

bool MemorySender::next(Bytes* piece) {
  if (sent_ == round_.size()) return false;
  const size_t count = std::min(kPiecePagesMax, round_.size() - sent_);
  *piece = encode_pages(memory_, std::span(round_).subspan(sent_, count));
  sent_ += count;
  pages_sent_ += count;
  return true;
}

void MemorySender::next_round() {
  round_ = memory_.take_changed();
  sent_ = 0;
}

std::vector<Bytes> MemorySender::rest() {
  next_round();
  std::vector<Bytes> pieces;
  for (Bytes piece; next(&piece);) pieces.push_back(std::move(piece));
  return pieces;
}

void MemorySender::end() {
  memory_.follow_changes(false);
  memory_.take_changed();
  round_.clear();
  sent_ = 0;
}

}  // namespace lockstep
