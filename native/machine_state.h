// All that a machine is at one position, but for its memory: what another process needs to go on from there.
// For a shadow that joins a running machine, for the log that it writes, and for whoever keeps a copy.
//
// Memory goes beside it in pieces (memory/page_pieces.h), because it is large and may be sent while the guest
// still runs.
#pragma once

#include <optional>

#include "memory/stream_hash.h"
#include "replay/driver.h"

namespace lockstep {

struct MachineState {
  Progression at;
  // It stands at this access, a write or a halt that was made: what enters here is still to be decided.
  std::optional<Access> waits_at;
  bool at_position = false;     // what is pending may enter before the guest goes on
  bool halted = false;          // it stands in a HLT, which entering KVM would step over
  uint64_t last_memory_us = 0;  // of DigestSchedule
  Bytes vcpu;                   // encode_vcpu_state
  Bytes devices;                // Board::save
  Bytes vectors;                // raised, not yet injected
  std::array<uint64_t, kOutputChannels> channel_bytes{};
  std::array<StreamHash::Saved, kOutputChannels> channel_hashes{};
};

Bytes encode_machine_state(const MachineState& state);
// Believes nothing: throws ERR_LOCKSTEP_STATE_DAMAGED. What lies in `vcpu` and `devices` is checked by who
// takes it.
MachineState decode_machine_state(std::span<const uint8_t> bytes);

}  // namespace lockstep
