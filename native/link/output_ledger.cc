#include "link/output_ledger.h"

#include <algorithm>
#include <cassert>

#include "error.h"

namespace lockstep {

bool OutputLedger::wait_for_room(std::unique_lock<std::mutex>& lock, size_t bytes,
                                 const std::function<bool()>& gave_up) {
  room_.wait(lock, [&] { return gave_up() || held_ == 0 || held_ + bytes <= bytes_max_; });
  return !gave_up();
}

void OutputLedger::append(uint8_t channel, uint64_t mark, std::span<const uint8_t> bytes) {
  assert(channel < kOutputChannels);
  if (bytes.empty()) return;
  Channel& c = channels_[channel];
  c.bytes.insert(c.bytes.end(), bytes.begin(), bytes.end());
  held_ += bytes.size();
  if (mark <= limit_ && entries_.empty()) {
    c.committed = c.end();
  } else {
    entries_.push_back({mark, channel, c.end()});
  }
  trim(c);
}

void OutputLedger::restore(uint8_t channel, uint64_t offset, std::span<const uint8_t> bytes) {
  Channel& c = channels_[channel];
  if (c.end() == 0) c.start = c.dropped = c.committed = offset;
  if (c.end() != offset)
    throw Failure("ERR_LOCKSTEP_LINK_DAMAGED", "The primary sent output that does not follow what it sent.");
  append(channel, 0, bytes);
}

std::span<const uint8_t> OutputLedger::kept(uint8_t channel) const {
  const Channel& c = channels_[channel];
  return std::span(c.bytes).subspan(c.skipped);
}

void OutputLedger::set_limit(uint64_t mark) {
  limit_ = mark;
  while (!entries_.empty() && entries_.front().mark <= limit_) {
    const Entry& entry = entries_.front();
    Channel& c = channels_[entry.channel];
    c.committed = std::max(c.committed, entry.end);
    entries_.pop_front();
  }
}

void OutputLedger::drop(uint8_t channel, uint64_t offset) {
  assert(channel < kOutputChannels);
  Channel& c = channels_[channel];
  if (offset <= c.dropped) return;
  c.dropped = offset;
  trim(c);
}

size_t OutputLedger::forget_for_room(uint8_t channel, size_t bytes) {
  const Channel& c = channels_[channel];
  const size_t over = held_ + bytes - std::min(held_ + bytes, bytes_max_);
  const size_t gone = std::min<size_t>(over, static_cast<size_t>(c.committed - c.start));
  drop(channel, c.start + gone);
  return gone;
}

void OutputLedger::trim(Channel& c) {
  uint64_t upto = std::min(c.dropped, c.end());
  if (upto > c.start) {
    size_t bytes = static_cast<size_t>(upto - c.start);
    c.skipped += bytes;
    c.start = upto;
    held_ -= bytes;
    room_.notify_all();
  }
  c.committed = std::max(c.committed, c.start);  // what has arrived was surely allowed to leave
  // Entries whose bytes have all gone would only pile up on a replaying side, which never commits.
  while (!entries_.empty() && entries_.front().end <= channels_[entries_.front().channel].start) {
    entries_.pop_front();
  }
  if (c.skipped == c.bytes.size()) {
    c.bytes.clear();
    c.skipped = 0;
  } else if (c.skipped > 4096 && c.skipped > c.bytes.size() / 2) {
    c.bytes.erase(c.bytes.begin(), c.bytes.begin() + static_cast<ptrdiff_t>(c.skipped));
    c.skipped = 0;
  }
}

std::span<const uint8_t> OutputLedger::ready(uint8_t channel, uint64_t offset, size_t bytes_max) const {
  const Channel& c = channels_[channel];
  if (offset < c.start || offset >= c.committed) return {};
  size_t bytes = std::min<size_t>(bytes_max, static_cast<size_t>(c.committed - offset));
  return {c.bytes.data() + c.skipped + (offset - c.start), bytes};
}

}  // namespace lockstep
