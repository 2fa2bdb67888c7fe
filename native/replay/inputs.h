// What waits outside to get in: the inbox, and the host descriptor joined to the machine's standard input.
#pragma once

#include "device/device.h"
#include "replay/control.h"
#include "replay/inbox.h"

namespace lockstep {

class Inputs {
 public:
  // `fd` is read on the vCPU thread, only when the guest has room (-1: none). `serial`: a bare guest.
  Inputs(Inbox& inbox, int fd, bool serial, Control& control)
      : inbox_(inbox), fd_(fd), serial_(serial), control_(control) {}
  // What is there and wanted, without waiting.
  std::vector<Input> take(const Want& want);
  // Until something may be there, the control is poked, or so many microseconds are over (-1: for ever).
  void wait(const Want& want, int64_t timeout_us);

 private:
  bool wants_fd(const Want& want) const;
  uint32_t room(const Want& want) const;  // for what comes from the descriptor
  void read_fd(const Want& want, std::vector<Input>& out);
  Inbox& inbox_;
  int fd_;
  bool serial_;
  bool fd_ended_ = false;
  Control& control_;
};

}  // namespace lockstep
