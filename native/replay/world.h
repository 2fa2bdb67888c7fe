// Where released output goes.
#pragma once

#include <functional>
#include <span>

#include "kvm/system.h"
#include "replay/control.h"
#include "replay/inbox.h"

namespace lockstep {

class World {
 public:
  virtual ~World() = default;
  // Blocks while the world takes nothing (the guest stands still); false when stopped meanwhile.
  virtual bool output(uint8_t channel, uint64_t lsn, std::span<const uint8_t> bytes) = 0;
};

// Host descriptors; -1 drops a channel's output.
class FdWorld : public World {
 public:
  FdWorld(int out, int error, Control& control, Inbox* inbox)
      : out_(out), error_(error), control_(control), inbox_(inbox) {}
  bool output(uint8_t channel, uint64_t lsn, std::span<const uint8_t> bytes) override;

 private:
  int out_, error_;
  Control& control_;
  Inbox* inbox_;  // told of a reader that went away
  bool hung_up_[2] = {};
};

}  // namespace lockstep
