#include "snapshot.h"

#include <cstring>

#include "device/state_stream.h"
#include "memory/guest_memory.h"

namespace lockstep {

namespace {

constexpr uint32_t kVersion = 1;
// The last key of a snapshot's manifest, so that what follows it is found without a parser.
constexpr char kOfKey[] = ",\"of\":";

std::string hex_text(std::span<const uint8_t> bytes) {
  static const char digits[] = "0123456789abcdef";
  std::string text;
  for (const uint8_t byte : bytes) text += {digits[byte >> 4], digits[byte & 15]};
  return text;
}

uint64_t pages_of(const Image& image) {
  uint64_t bytes = 0;
  for (const ImageSegment& segment : image.segments) bytes += segment.bytes;
  return bytes / kPageBytes;
}

}  // namespace

Bytes encode_snapshot_state(const SnapshotState& state) {
  StateWriter out;
  out.put(kVersion);
  out.put(static_cast<uint32_t>(state.guest));
  out.put_bytes({reinterpret_cast<const uint8_t*>(state.options.data()), state.options.size()});
  out.put_bytes(encode_log_start(state.start));
  out.put_bytes({reinterpret_cast<const uint8_t*>(state.page_hashes.data()), 8 * state.page_hashes.size()});
  return out.bytes();
}

SnapshotState decode_snapshot_state(const Image& image) {
  StateReader in(image.state);
  uint32_t version, guest;
  in.get(version);
  if (version != kVersion)
    throw Failure("ERR_LOCKSTEP_STATE_DAMAGED", "the snapshot's state is of version " +
                                                    std::to_string(version) + ", this build reads version " +
                                                    std::to_string(kVersion));
  in.get(guest);
  SnapshotState state;
  const Bytes options = in.get_bytes(), start = in.get_bytes(), hashes = in.get_bytes();
  in.check_end();
  if (guest > static_cast<uint32_t>(StartMode::kProgram) || hashes.size() != 8 * pages_of(image))
    throw Failure("ERR_LOCKSTEP_STATE_DAMAGED", "the snapshot's state does not fit its memory");
  state.guest = static_cast<StartMode>(guest);
  state.options.assign(options.begin(), options.end());
  state.start = decode_log_start(start);
  state.page_hashes.resize(hashes.size() / 8);
  if (!hashes.empty()) std::memcpy(state.page_hashes.data(), hashes.data(), hashes.size());
  return state;
}

std::string snapshot_manifest(const Image& from, const LogStart& start, const SnapshotNeeds& needs) {
  std::string of = from.manifest, image = hex_text(from.header.sha256);
  // A snapshot of a machine that came from one names the image of them all.
  if (from.header.mode == static_cast<uint32_t>(StartMode::kSnapshot)) {
    const size_t at = of.find(kOfKey);
    if (at != std::string::npos && of.ends_with('}'))
      of = of.substr(at + sizeof kOfKey - 1, of.size() - at - sizeof kOfKey);
  }
  return "{\"version\":1,\"kind\":\"snapshot\",\"event\":" + std::to_string(start.digest.lsn) +
         ",\"timeUs\":" + std::to_string(start.time_us) + ",\"vendor\":\"" + needs.vendor +
         "\",\"cpuModel\":\"" + needs.cpu_level + "\",\"net\":" + (needs.has_card ? "true" : "false") +
         ",\"from\":\"" + image + "\"" + kOfKey + of + "}";
}

}  // namespace lockstep
