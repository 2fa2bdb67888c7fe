// What the machine has said and the world has not yet confirmed: per channel a byte stream with offsets.
//
//   start             committed              end
//     |---- may leave ----|---- must wait ----|
//   the console client    is safe in the log   all that the
//   has all before        up to here           machine made
//
// The same ledger serves the primary (committed follows the shadow's acknowledgements) and the shadow (which
// keeps everything until the primary says it was released, and may send none of it until it is live).
// "How safe" is a mark: a number that grows with everything sent to the shadow. An LSN would not do: a
// position between two events is pinned by a progress message, and must be acknowledged as well.
// It has no lock of its own: its owner's mutex guards it.
#pragma once

#include <array>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <span>

#include "log/event.h"

namespace lockstep {

class OutputLedger {
 public:
  static constexpr uint64_t kAll = UINT64_MAX;
  explicit OutputLedger(size_t bytes_max) : bytes_max_(bytes_max) {}

  // Waits until `bytes` fit (a piece larger than the bound fits when nothing else is held). False when
  // `gave_up` became true first.
  bool wait_for_room(std::unique_lock<std::mutex>& lock, size_t bytes, const std::function<bool()>& gave_up);
  void wake() { room_.notify_all(); }

  // May leave once everything up to `mark` is safe; marks never decrease. What was dropped in advance is not
  // kept.
  void append(uint8_t channel, uint64_t mark, std::span<const uint8_t> bytes);
  // A replaying side that joined late: this is what its channel still keeps, from byte `offset` on. In pieces
  // that follow one another; the first may be empty.
  void restore(uint8_t channel, uint64_t offset, std::span<const uint8_t> bytes);
  // All that the channel keeps, committed or not.
  std::span<const uint8_t> kept(uint8_t channel) const;
  // Everything up to `mark` is safe. What was committed stays so when the limit falls.
  void set_limit(uint64_t mark);
  // Everything before `offset` has arrived. May lie beyond the end: a replaying side hears of it early.
  void drop(uint8_t channel, uint64_t offset);

  // Nobody reads the channel: what of it may leave goes, the oldest first, until `bytes` fit. How much went.
  size_t forget_for_room(uint8_t channel, size_t bytes);

  // Committed bytes from `offset` on, at most `bytes_max` of them. `offset` is not below start().
  std::span<const uint8_t> ready(uint8_t channel, uint64_t offset, size_t bytes_max) const;
  uint64_t start(uint8_t channel) const { return channels_[channel].start; }
  uint64_t committed(uint8_t channel) const { return channels_[channel].committed; }
  uint64_t end(uint8_t channel) const { return channels_[channel].end(); }
  size_t held() const { return held_; }
  bool all_committed() const { return entries_.empty(); }

 private:
  struct Channel {
    Bytes bytes;  // from `start - skipped`: dropped bytes are cut off lazily
    size_t skipped = 0;
    uint64_t start = 0, committed = 0;
    uint64_t dropped = 0;  // may exceed end()
    uint64_t end() const { return start + bytes.size() - skipped; }
  };
  struct Entry {
    uint64_t mark;
    uint8_t channel;
    uint64_t end;
  };
  void trim(Channel& channel);
  std::array<Channel, kOutputChannels> channels_;
  std::deque<Entry> entries_;  // not yet committed, in order
  std::condition_variable room_;
  uint64_t limit_ = 0;
  size_t held_ = 0;
  const size_t bytes_max_;
};

}  // namespace lockstep
