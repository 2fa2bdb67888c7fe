#include "replay/inbox.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "error.h"

namespace lockstep {
namespace {

constexpr size_t kMergedBytesMax = 16 * 1024;

// Many small pushes become few inputs: each costs bytes in the log. A merged input stays small, because a
// split one is moved forward by what was taken.
bool merge(Input& into, const Input& input, size_t bytes_max) {
  if (into.kind != InputKind::kData || input.kind != InputKind::kData || into.channel != input.channel ||
      into.bytes.size() + input.bytes.size() > bytes_max)
    return false;
  into.bytes.insert(into.bytes.end(), input.bytes.begin(), input.bytes.end());
  return true;
}

// The counter of an eventfd can only fail to go up when it is huge, and then the fd is readable anyway.
void signal(int event_fd) {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(event_fd, &one, sizeof one);
}

}  // namespace

Inbox::Inbox() : event_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (event_fd_ < 0)
    throw_system("ERR_LOCKSTEP_SYSTEM", "eventfd", "cannot make an event descriptor",
                 "close some descriptors or raise `ulimit -n`");
}

Inbox::~Inbox() { close(event_fd_); }

void Inbox::push(Input input) {
  const bool data = input.kind == InputKind::kData;
  if ((data || input.kind == InputKind::kEof) && input.channel >= 4)
    throw Failure("ERR_LOCKSTEP_INTERNAL", "input on channel " + std::to_string(input.channel));
  if (data && input.bytes.empty()) return;
  std::lock_guard lock(mutex_);
  if (says_nothing_new(input)) return;
  bytes_ += input.bytes.size();
  if (queue_.empty() || !merge(queue_.back(), input, kMergedBytesMax)) queue_.push_back(std::move(input));
  signal(event_fd_);
}

// Such messages a console client could send without end while its guest takes nothing.
bool Inbox::says_nothing_new(const Input& input) {
  if (input.kind == InputKind::kWindow) {
    const bool waits = !window_.empty();
    window_ = input.bytes;
    return waits;
  }
  if (input.kind != InputKind::kSignal || input.bytes.empty()) return false;
  const bool waits = signals_[input.bytes[0]];
  signals_[input.bytes[0]] = true;
  return waits;
}

size_t Inbox::room() const {
  std::lock_guard lock(mutex_);
  return bytes_ < kBytesMax ? kBytesMax - bytes_ : 0;
}

void Inbox::wake() { signal(event_fd_); }

std::vector<Input> Inbox::take(const std::array<uint32_t, 4>& caps) {
  std::vector<Input> taken;
  std::deque<Input> left;
  std::array<size_t, 4> room{caps[0], caps[1], caps[2], caps[3]};
  std::array<bool, 4> blocked{};  // data of this channel stays behind, and so must all that follows it
  const auto hand_out = [&taken](Input&& input) {
    if (taken.empty() || !merge(taken.back(), input, SIZE_MAX)) taken.push_back(std::move(input));
  };

  std::lock_guard lock(mutex_);
  uint64_t count;
  [[maybe_unused]] const ssize_t drained = read(event_fd_, &count, sizeof count);
  for (Input& input : queue_) {
    if (input.kind == InputKind::kData) {
      const size_t part = blocked[input.channel] ? 0 : std::min(room[input.channel], input.bytes.size());
      room[input.channel] -= part;
      bytes_ -= part;
      if (part == input.bytes.size()) {
        hand_out(std::move(input));
        continue;
      }
      blocked[input.channel] = true;
      if (part > 0) {
        const auto end = input.bytes.begin() + static_cast<ptrdiff_t>(part);
        hand_out({InputKind::kData, input.channel, Bytes(input.bytes.begin(), end)});
        input.bytes.erase(input.bytes.begin(), end);
      }
      left.push_back(std::move(input));
    } else if (input.kind == InputKind::kEof && blocked[input.channel]) {
      left.push_back(std::move(input));
    } else {
      bytes_ -= input.bytes.size();
      if (input.kind == InputKind::kWindow) input.bytes = std::exchange(window_, {});
      taken.push_back(std::move(input));
    }
  }
  signals_.reset();
  // What is left found no room: it is not news, and a waiting recorder must not spin over it.
  queue_ = std::move(left);
  return taken;
}

bool Inbox::empty() const {
  std::lock_guard lock(mutex_);
  return queue_.empty();
}

}  // namespace lockstep
