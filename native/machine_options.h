// What makes two machines the same: stands in the log's header as "key=value" lines, and is all that a replay
// knows of how the recording was started.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

namespace lockstep {

constexpr uint16_t kMtuMax = 9000;

// The network card's identity. Addresses in network byte order.
struct NetOptions {
  std::array<uint8_t, 6> mac{};
  uint32_t ip = 0, netmask = 0, gateway = 0;
  bool dhcp = false;  // the guest kernel asks for these
  uint16_t mtu = 1500;
};

struct MachineOptions {
  uint64_t memory_bytes = 0;
  std::string cpu_model;  // CpuModel::serialise()
  std::array<uint8_t, 32> seed{};
  uint64_t fixed_time_us = 0;  // 0: virtual time followed the recording host's clock
  uint64_t digest_every = 0;   // 0: the default schedule
  uint32_t tty_flags = 0;
  uint16_t rows = 0, columns = 0;
  std::optional<NetOptions> net;
  std::string host;  // for people: back end and vendor

  std::string serialise() const;
  // Throws ERR_LOCKSTEP_LOG_DAMAGED.
  static MachineOptions parse(const std::string& text);
};

}  // namespace lockstep
