#include "link/connection.h"

#include <cerrno>
#include <cstring>

#include "fault_point.h"

namespace lockstep {
namespace {
constexpr size_t kReadBytes = 128 * 1024;
}

Connection::Connection(std::unique_ptr<Stream> stream) : stream_(std::move(stream)) {}

size_t Connection::write_now(std::span<const uint8_t> bytes) {
  size_t written = 0;
  while (written < bytes.size() && !broken_) {
    ssize_t n = stream_->write(bytes.subspan(written));
    if (n > 0) {
      written += static_cast<size_t>(n);
    } else if (n < 0 && errno == EINTR) {
      continue;
    } else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      break;
    } else {
      broken_ = true;
      failed();
    }
  }
  return broken_ ? bytes.size() : written;
}

// EPIPE: the other end had hung up before.
void Connection::failed() {
  if (errno != EPIPE) was_reset_ = true;
}

void Connection::keep(std::span<const uint8_t> bytes) {
  if (out_start_ == out_.size()) {
    out_.clear();
    out_start_ = 0;
  }
  out_.insert(out_.end(), bytes.begin(), bytes.end());
}

void Connection::send(std::span<const uint8_t> bytes) {
  if (unsent() == 0) bytes = bytes.subspan(write_now(bytes));
  if (!bytes.empty() && !broken_) keep(bytes);
}

void Connection::send(std::span<const uint8_t> head, std::span<const uint8_t> body, const char* place) {
  if (fault_due(place)) {
    send(head);
    send(body.first(body.size() / 2));
    fault_strike();
    send(body.subspan(body.size() / 2));
    return;
  }
  // One system call for the usual small message; a large body is worth a second call, not a copy.
  constexpr size_t kJoin = 16 * 1024;
  if (body.size() > kJoin) {
    send(head);
    send(body);
    return;
  }
  uint8_t joined[kJoin + 64];
  memcpy(joined, head.data(), head.size());
  memcpy(joined + head.size(), body.data(), body.size());
  send({joined, head.size() + body.size()});
}

void Connection::flush() {
  if (unsent() == 0) return;
  out_start_ += write_now({out_.data() + out_start_, unsent()});
  if (broken_ || out_start_ == out_.size()) {
    out_ = {};
    out_start_ = 0;
  } else if (out_start_ > out_.size() / 2) {
    out_.erase(out_.begin(), out_.begin() + static_cast<ptrdiff_t>(out_start_));
    out_start_ = 0;
  }
}

Connection::Fill Connection::fill() {
  if (in_start_ > 0) {
    memmove(in_.data(), in_.data() + in_start_, in_end_ - in_start_);
    in_end_ -= in_start_;
    in_start_ = 0;
  }
  // Grows with what has arrived, never with what a peer merely announced.
  if (in_.size() < in_end_ + kReadBytes) in_.resize(in_end_ + std::max(kReadBytes, in_end_));
  for (;;) {
    ssize_t n = stream_->read({in_.data() + in_end_, in_.size() - in_end_});
    if (n > 0) {
      in_end_ += static_cast<size_t>(n);
      return Fill::kBytes;
    }
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return Fill::kNothing;
    if (n < 0) failed();
    return Fill::kClosed;
  }
}

}  // namespace lockstep
