// What an image of a machine in the midst of its life holds beside its memory (image.h, `state`).
#pragma once

#include "image.h"
#include "log/log_start.h"

namespace lockstep {

struct SnapshotState {
  StartMode guest = StartMode::kProgram;  // how the machine had started; never kSnapshot
  std::string options;                    // MachineOptions::serialise()
  LogStart start;                         // where a log of a machine that goes on from here starts, too
  // Of each page of the segments, in their order, as MemoryDigest has them: so that nobody has to read memory
  // in order to know its digest.
  std::vector<uint64_t> page_hashes;
};

Bytes encode_snapshot_state(const SnapshotState& state);
// Believes nothing: throws ERR_LOCKSTEP_STATE_DAMAGED or ERR_LOCKSTEP_LOG_DAMAGED.
SnapshotState decode_snapshot_state(const Image& image);

// What hosts have to have for the machine to go on there.
struct SnapshotNeeds {
  std::string vendor, cpu_level;  // CpuModel's
  bool has_card = false;
};

// The manifest of a snapshot: what was taken, and the manifest of the image that the machine had booted.
std::string snapshot_manifest(const Image& from, const LogStart& start, const SnapshotNeeds& needs);

}  // namespace lockstep
