// What every back end has in common: frames out of the output channel; announcing; opening one.
#include "net/nic.h"

#include <array>
#include <cstring>

#include "net/frame.h"

namespace lockstep {

size_t send_frames(Nic* nic, std::span<const uint8_t> stream) {
  const size_t bytes = stream.size();
  for (auto frame = next_frame(stream); !frame.empty(); frame = next_frame(stream))
    if (nic && !nic->send(frame)) nic->lost_out++;
  return bytes - stream.size();
}

void announce(Nic* nic, const NetOptions& options) {
  if (!nic) return;
  nic->listen_for(options.mac);
  std::array<uint8_t, 60> frame{};
  const auto put = [&frame](size_t at, const void* from, size_t bytes) {
    std::memcpy(frame.data() + at, from, bytes);
  };
  constexpr uint8_t kArpRequest[] = {0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1};  // Ethernet and IPv4
  std::memset(frame.data(), 0xff, 6);
  put(6, options.mac.data(), 6);
  put(12, kArpRequest, sizeof kArpRequest);
  put(22, options.mac.data(), 6);
  put(28, &options.ip, 4);  // its sender's address, and the one that is asked for
  put(38, &options.ip, 4);
  nic->send(frame);
}

std::unique_ptr<Nic> open_nic(const NicConfig& config, const NetOptions& options) {
  switch (config.kind) {
    case NicConfig::Kind::kNone: return nullptr;
    case NicConfig::Kind::kTap: return open_tap(config, options);
    case NicConfig::Kind::kUnix: return open_unix_nic(config.path, config.peer);
  }
  return nullptr;
}

}  // namespace lockstep
