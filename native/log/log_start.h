// Where a log starts that does not start at boot: the log of a shadow that joined a running machine.
#pragma once

#include "log/frame.h"

namespace lockstep {

struct LogStart {
  Digest digest;         // of the machine as it starts, all of memory included; its LSN is the event before
  uint64_t time_us = 0;  // virtual time then
  uint32_t chain = 0;    // the checksum chain behind the frames that came before
  Bytes state;           // the machine's (machine_state.h); the log only carries it
};

Bytes encode_log_start(const LogStart& start);
// Believes nothing: throws ERR_LOCKSTEP_LOG_DAMAGED.
LogStart decode_log_start(std::span<const uint8_t> bytes);

}  // namespace lockstep
