// Inputs on their way into the machine: pushed by any thread, taken by the recorder on the vCPU thread.
#pragma once

#include <bitset>
#include <deque>
#include <mutex>

#include "log/event.h"

namespace lockstep {

class Inbox {
 public:
  static constexpr size_t kBytesMax = 256 * 1024;
  Inbox();
  ~Inbox();
  Inbox(const Inbox&) = delete;
  // Never blocks; feeders stop reading their own source while room() is 0. A signal that waits already is not
  // made two, as on any Unix, and of window sizes the last counts.
  void push(Input input);
  size_t room() const;
  // Readable when something was pushed since the last take(), or after wake().
  int fd() const { return event_fd_; }
  void wake();
  // Moves out what fits: at most caps[channel] bytes of data per channel (a longer input is split), eof
  // only after all data of its channel, everything else as it comes.
  std::vector<Input> take(const std::array<uint32_t, 4>& caps);
  bool empty() const;

 private:
  mutable std::mutex mutex_;
  std::deque<Input> queue_;
  bool says_nothing_new(const Input& input);
  size_t bytes_ = 0;
  std::bitset<256> signals_;  // those that wait
  Bytes window_;              // the last; empty: none waits
  int event_fd_ = -1;
};

}  // namespace lockstep
