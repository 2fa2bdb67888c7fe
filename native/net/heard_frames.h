// What a shadow's card hears while its primary serves the network: kept until the log says that the primary
// has taken it in. What a primary took off the wire and did not live to log is then still there, and nobody
// has to send it again, which clients do only after 200 ms.
//
// A shadow hears frames that are flooded to its port: on a bridge that both sides join, and wherever the
// network mirrors them.
#pragma once

#include <array>
#include <deque>
#include <span>

#include "log/event.h"
#include "net/nic.h"

namespace lockstep {

class HeardFrames {
 public:
  // Takes what has come in. True when some of that was said by the machine itself, whose address this is: a
  // bridge on the way has now learned that it is elsewhere.
  bool hear(Nic& nic, const std::array<uint8_t, 6>& machine);
  // The primary has this frame, and with it all that were heard before: its card heard them in the same
  // order.
  void logged(std::span<const uint8_t> frame);
  // What is left, in order; afterwards nothing is.
  std::deque<Bytes> take();

 private:
  std::deque<Bytes> frames_;
  size_t bytes_ = 0;
  Bytes buffer_;
};

}  // namespace lockstep
