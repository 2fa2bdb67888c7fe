// The network card: virtio-net (virtio 1.2, 5.1) without offloads. Queue 0 receives, queue 1 transmits.
//
// A driver may notify as usual. Our own kernel does not: all that lies in the transmit queue is taken, and
// packets are put into the receive queue, whenever it exchanges anyway (guest/abi.h), so that one exit serves
// both ways.
#pragma once

#include "device/virtio_mmio.h"

namespace lockstep {

struct VirtioNetConfig {
  uint64_t gpa = 0;
  std::array<uint8_t, 6> mac{};
  uint16_t mtu = 1500;
  bool interrupts = false;  // a bare guest's; our kernel has no use for any
};

// For people; not part of the machine's state.
struct NetCounts {
  uint64_t frames_in = 0, bytes_in = 0, dropped_in = 0;
  uint64_t frames_out = 0, bytes_out = 0, dropped_out = 0;
};

class VirtioNet : public VirtioMmio {
 public:
  static constexpr uint8_t kVector = 0x25;
  static constexpr uint16_t kReceive = 0, kTransmit = 1;

  VirtioNet(Sink& sink, GuestMemory& memory, const VirtioNetConfig& config);
  Want want(const Access& access) override;
  void input(const Input& input) override;
  // Takes every frame that the driver wants sent; they leave as one output, each behind its length.
  void transmit();
  // Packets that the receive queue has buffers for.
  uint32_t room();
  const NetCounts& counts() const { return counts_; }

 private:
  void notified(uint16_t queue) override;
  std::span<const uint8_t> configuration() const override { return configuration_; }
  void interrupt() override;
  bool append_frame(const VirtqueueChain& chain, Bytes& out) const;
  bool deliver(const VirtqueueChain& chain, std::span<const uint8_t> frame);
  Sink& sink_;
  const bool interrupts_;
  const size_t frame_bytes_max_;
  std::array<uint8_t, 12> configuration_{};
  NetCounts counts_;
};

}  // namespace lockstep
