// Where a replayer gets its records: a log file, or the link.
#pragma once

#include "log/event.h"

namespace lockstep {

class RecordSource {
 public:
  enum class Next {
    kRecord,   // *record was filled
    kEnd,      // the log is over (with an End record delivered before, or cut)
    kLive,     // the fence was won and every received record was delivered: face the world
    kStopped,  // stop() was called, or this side was fenced off
    kNudged,   // nothing yet, but somebody called nudge(): look around and ask again
  };
  virtual ~RecordSource() = default;
  // Blocks until there is something. Called on the vCPU thread.
  virtual Next next(Record* record) = 0;
  // Any thread: a next() that waits comes back.
  virtual void nudge() {}
};

}  // namespace lockstep
