// A stream with what is still to be written and what was read but not yet understood.
//
// The write side belongs to whoever holds the owner's mutex, the read side to one thread.
#pragma once

#include <atomic>
#include <memory>
#include <span>

#include "link/socket.h"
#include "log/event.h"

namespace lockstep {

class Connection {
 public:
  explicit Connection(std::unique_ptr<Stream> stream);
  int fd() const { return stream_->fd(); }
  std::string problem() const { return stream_->problem(); }
  std::string identity() const { return stream_->identity(); }
  // It ended as no process ends that hangs up or is killed with nothing unread: by a reset, by whomever.
  bool was_reset() const { return was_reset_; }

  // Writes what the socket takes now and keeps the rest in order. After an error everything is swallowed:
  // the reader sees the end of the stream and decides what it means.
  void send(std::span<const uint8_t> bytes);
  // Two pieces as one message, without joining them first. `place`: a fault point in the middle of the body.
  void send(std::span<const uint8_t> head, std::span<const uint8_t> body, const char* place);
  void flush();
  size_t unsent() const { return out_.size() - out_start_; }

  enum class Fill { kBytes, kNothing, kClosed };
  Fill fill();
  std::span<const uint8_t> unread() const { return {in_.data() + in_start_, in_end_ - in_start_}; }
  void consume(size_t bytes) { in_start_ += bytes; }

 private:
  void keep(std::span<const uint8_t> bytes);
  size_t write_now(std::span<const uint8_t> bytes);
  void failed();
  std::unique_ptr<Stream> stream_;
  bool broken_ = false;
  std::atomic<bool> was_reset_{false};  // whoever comes upon it first, a reader or a writer, is told why
  Bytes out_;
  size_t out_start_ = 0;
  Bytes in_;
  size_t in_start_ = 0, in_end_ = 0;
};

}  // namespace lockstep
