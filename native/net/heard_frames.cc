#include "net/heard_frames.h"

#include <algorithm>
#include <utility>

namespace lockstep {

namespace {
// Of a second and more under load. Older ones go first: their senders have repeated them.
constexpr size_t kFramesMax = 4096, kBytesMax = 4 << 20;
constexpr size_t kFrameBytesMax = 65536;
constexpr size_t kSourceAt = 6;      // in an Ethernet header
constexpr size_t kAtOnceMax = 1000;  // the usual length of a host's queue
}  // namespace

bool HeardFrames::hear(Nic& nic, const std::array<uint8_t, 6>& machine) {
  bool by_machine = false;
  buffer_.resize(kFrameBytesMax);
  for (size_t i = 0; i < kAtOnceMax; i++) {
    const size_t got = nic.receive(buffer_);
    if (got == 0) break;
    if (got >= kSourceAt + machine.size() &&
        std::ranges::equal(machine, std::span(buffer_).subspan(kSourceAt, machine.size()))) {
      by_machine = true;
      continue;
    }
    frames_.emplace_back(buffer_.begin(), buffer_.begin() + static_cast<ptrdiff_t>(got));
    bytes_ += got;
    while (frames_.size() > kFramesMax || bytes_ > kBytesMax) {
      bytes_ -= frames_.front().size();
      frames_.pop_front();
    }
  }
  return by_machine;
}

void HeardFrames::logged(std::span<const uint8_t> frame) {
  const auto same = [frame](const Bytes& heard) { return std::ranges::equal(heard, frame); };
  const auto found = std::ranges::find_if(frames_, same);
  if (found == frames_.end()) return;
  for (auto it = frames_.begin(); it <= found; ++it) bytes_ -= it->size();
  frames_.erase(frames_.begin(), found + 1);
}

std::deque<Bytes> HeardFrames::take() {
  bytes_ = 0;
  return std::exchange(frames_, {});
}

}  // namespace lockstep
