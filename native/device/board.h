// All devices of a machine and who answers which address. One board serves recording and replaying.
#pragma once

#include <optional>
#include <string>

#include "device/clock.h"
#include "device/exchange.h"
#include "device/power.h"
#include "device/random.h"
#include "device/serial.h"
#include "device/traps.h"
#include "device/virtio_net.h"

namespace lockstep {

class Board {
 public:
  // `has_exchange`: the guest is our kernel; a bare guest has the other devices only.
  Board(Sink& sink, GuestMemory& memory, const CpuModel& model, std::span<const uint8_t, 32> seed,
        bool has_exchange, const std::optional<VirtioNetConfig>& net);

  void write(const Access& access);
  uint64_t read(const Access& access);
  Want want(const Access& access);
  void apply(const Event& event);  // time first, then inputs in order
  Traps& traps() { return traps_; }
  const Exchange& exchange() const { return exchange_; }
  const VirtioNet* net() const { return net_ ? &*net_ : nullptr; }

  Bytes save() const;
  void restore(std::span<const uint8_t> state);

 private:
  Device* find(const Access& access);
  Sink& sink_;
  bool has_exchange_;
  Clock clock_;
  Random random_;
  Serial serial_;
  Power power_;
  Exchange exchange_;
  Traps traps_;
  std::optional<VirtioNet> net_;
};

}  // namespace lockstep
