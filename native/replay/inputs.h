// What waits outside to get in: the inbox, the host descriptor joined to the machine's standard input, and
// the network.
#pragma once

#include <deque>

#include "device/device.h"
#include "net/nic.h"
#include "replay/control.h"
#include "replay/inbox.h"

namespace lockstep {

class Inputs {
 public:
  // `fd` is read on the vCPU thread, only when the guest has room (-1: none). `serial`: a bare guest. `nic`,
  // null without one, likewise: frames that find no room wait, or are dropped, where they come from.
  Inputs(Inbox& inbox, int fd, bool serial, Nic* nic, size_t frame_bytes_max, Control& control)
      : inbox_(inbox), fd_(fd), serial_(serial), nic_(nic), frame_(frame_bytes_max + 1), control_(control) {}
  // What is there and wanted, without waiting.
  std::vector<Input> take(const Want& want);
  // Frames that a shadow's card heard before it was live: they come first.
  void heard(std::deque<Bytes> frames) { heard_ = std::move(frames); }
  // Until something may be there, the control is poked, or so many microseconds are over (-1: for ever).
  void wait(const Want& want, int64_t timeout_us);

 private:
  size_t next_frame();
  bool wants_fd(const Want& want) const;
  uint32_t room(const Want& want) const;  // for what comes from the descriptor
  void read_fd(const Want& want, std::vector<Input>& out);
  void read_packets(const Want& want, std::vector<Input>& out);
  Inbox& inbox_;
  int fd_;
  bool serial_;
  bool fd_ended_ = false;
  Nic* nic_;
  std::deque<Bytes> heard_;
  Bytes frame_;  // one byte more than a frame may have, to know those that are too long
  Control& control_;
};

}  // namespace lockstep
