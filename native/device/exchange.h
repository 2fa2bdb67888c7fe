// The one device of the guest kernel: takes output, brings input, time and random bytes through a shared page
// (guest/abi.h). Everything it reads there is the guest's and trusted with nothing.
#pragma once

#include "device/clock.h"
#include "device/device.h"
#include "device/random.h"
#include "guest/abi.h"
#include "memory/guest_memory.h"

namespace lockstep {

class Exchange : public Device {
 public:
  Exchange(Sink& sink, GuestMemory& memory, Random& random) : sink_(sink), memory_(memory), random_(random) {}
  void write(const Access& access) override;
  uint64_t read(const Access&) override { return 0; }
  Want want(const Access& access) override;
  void input(const Input& input) override;
  void time(uint64_t now_us) override;
  void save(StateWriter& out) const override;
  void restore(StateReader& in) override;
  // Console input that has entered the machine so far.
  uint64_t input_bytes() const { return input_bytes_; }
  bool input_ended() const { return input_ended_; }

 private:
  void take_output();
  void end();
  ls_exchange page() const;
  void store_channel(uint8_t index, const ls_channel& channel);
  Sink& sink_;
  GuestMemory& memory_;
  Random& random_;
  uint64_t input_bytes_ = 0;
  bool input_ended_ = false;
  bool time_booted_ = false;
};

}  // namespace lockstep
