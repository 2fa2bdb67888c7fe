// The register file of a virtio device on a memory-mapped bus (virtio 1.2, 4.2): features, queues, status,
// interrupts. What the device does with its queues, a subclass says.
#pragma once

#include "device/device.h"
#include "device/virtqueue.h"

namespace lockstep {

class VirtioMmio : public Device {
 public:
  static constexpr uint64_t kBytes = kPageBytes;
  bool owns(uint64_t gpa) const { return gpa >= gpa_ && gpa < gpa_ + kBytes; }

  void write(const Access& access) override;
  uint64_t read(const Access& access) override;
  void save(StateWriter& out) const override;
  void restore(StateReader& in) override;

 protected:
  VirtioMmio(GuestMemory& memory, uint64_t gpa, uint32_t device_id, uint64_t features, size_t queues)
      : memory_(memory), gpa_(gpa), device_id_(device_id), features_(features), queues_(queues) {}
  // The driver has put something into this queue.
  virtual void notified(uint16_t queue) = 0;
  virtual std::span<const uint8_t> configuration() const = 0;
  // An interrupt became pending: once until the driver has acknowledged it.
  virtual void interrupt() = 0;

  // Null unless the driver has brought device and queue up and neither is broken.
  Virtqueue* running(uint16_t queue);
  // After chains of the queue were given back, or it broke: tells the driver.
  void settle(Virtqueue& queue, bool gave_back);
  GuestMemory& memory_;

 private:
  uint64_t read_register(uint64_t offset) const;
  void write_register(uint64_t offset, uint32_t value);
  void write_queue(uint64_t offset, uint32_t value);
  void write_status(uint32_t value);
  void raise(uint32_t reason);
  void reset();
  const uint64_t gpa_;
  const uint32_t device_id_;
  const uint64_t features_;
  std::vector<Virtqueue> queues_;
  uint64_t driver_features_ = 0;
  uint32_t device_features_select_ = 0, driver_features_select_ = 0, queue_select_ = 0;
  uint32_t status_ = 0, interrupt_status_ = 0;
};

}  // namespace lockstep
