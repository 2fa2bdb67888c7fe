#include "device/virtio_mmio.h"

#include <algorithm>

namespace lockstep {

namespace {

enum Register : uint64_t {
  kMagic = 0x000,
  kVersion = 0x004,
  kDeviceId = 0x008,
  kVendorId = 0x00c,
  kDeviceFeatures = 0x010,
  kDeviceFeaturesSelect = 0x014,
  kDriverFeatures = 0x020,
  kDriverFeaturesSelect = 0x024,
  kQueueSelect = 0x030,
  kQueueSizeMax = 0x034,
  kQueueSize = 0x038,
  kQueueReady = 0x044,
  kQueueNotify = 0x050,
  kInterruptStatus = 0x060,
  kInterruptAcknowledge = 0x064,
  kStatus = 0x070,
  kQueueDescriptors = 0x080,  // each an address in two halves
  kQueueDriver = 0x090,
  kQueueDevice = 0x0a0,
  kSharedMemory = 0x0b0,  // length and base, 16 bytes: none is all ones
  kConfiguration = 0x100,
};

constexpr uint32_t kMagicValue = 0x74726976, kVersionValue = 2, kVendorValue = 0x504b434c;  // "virt", "LCKP"
constexpr uint64_t kVersion1 = 1ull << 32;
enum Status : uint32_t { kDriverOk = 4, kFeaturesOk = 8, kNeedsReset = 64 };
enum Interrupt : uint32_t { kUsedBuffer = 1, kConfigurationChange = 2 };

void set_half(uint64_t& address, bool high, uint32_t value) {
  const int shift = high ? 32 : 0;
  address = (address & ~(0xffffffffull << shift)) | uint64_t{value} << shift;
}

}  // namespace

uint64_t VirtioMmio::read(const Access& access) {
  const uint64_t offset = access.address - gpa_;
  if (offset < kConfiguration) return access.size == 4 && offset % 4 == 0 ? read_register(offset) : 0;
  const std::span<const uint8_t> bytes = configuration();
  uint64_t value = 0;
  for (uint64_t i = 0; i < access.size && offset - kConfiguration + i < bytes.size(); i++)
    value |= uint64_t{bytes[offset - kConfiguration + i]} << (8 * i);
  return value;
}

uint64_t VirtioMmio::read_register(uint64_t offset) const {
  const bool has_queue = queue_select_ < queues_.size();
  switch (offset) {
    case kMagic: return kMagicValue;
    case kVersion: return kVersionValue;
    case kDeviceId: return device_id_;
    case kVendorId: return kVendorValue;
    case kDeviceFeatures:
      return device_features_select_ < 2 ? static_cast<uint32_t>(features_ >> (32 * device_features_select_))
                                         : 0;
    case kQueueSizeMax: return has_queue ? Virtqueue::kSizeMax : 0;
    case kQueueReady: return has_queue && queues_[queue_select_].ready();
    case kInterruptStatus: return interrupt_status_;
    case kStatus: return status_;
    default: return offset >= kSharedMemory && offset < kSharedMemory + 16 ? 0xffffffff : 0;
  }
}

void VirtioMmio::write(const Access& access) {
  const uint64_t offset = access.address - gpa_;
  // Nothing in the configuration can be written, and registers only whole.
  if (offset >= kConfiguration || access.size != 4 || offset % 4) return;
  write_register(offset, static_cast<uint32_t>(access.value));
}

void VirtioMmio::write_register(uint64_t offset, uint32_t value) {
  switch (offset) {
    case kDeviceFeaturesSelect: device_features_select_ = value; break;
    case kDriverFeatures:
      if (driver_features_select_ < 2 && !(status_ & kFeaturesOk))
        set_half(driver_features_, driver_features_select_ == 1, value);
      break;
    case kDriverFeaturesSelect: driver_features_select_ = value; break;
    case kQueueSelect: queue_select_ = value; break;
    case kQueueNotify:
      if (value < queues_.size()) notified(static_cast<uint16_t>(value));
      break;
    case kInterruptAcknowledge: interrupt_status_ &= ~value; break;
    case kStatus: write_status(value); break;
    default:
      if (queue_select_ < queues_.size()) write_queue(offset, value);
      break;
  }
}

void VirtioMmio::write_queue(uint64_t offset, uint32_t value) {
  Virtqueue& queue = queues_[queue_select_];
  if (offset == kQueueReady) {
    if (!(value & 1))
      queue.disable();
    else if (!queue.ready() && !queue.enable(memory_))
      settle(queue, false);
    return;
  }
  if (queue.ready()) return;  // a queue that is in use stays as it is
  switch (offset) {
    case kQueueSize: queue.size = static_cast<uint16_t>(std::min<uint32_t>(value, 0xffff)); break;
    case kQueueDescriptors:
    case kQueueDescriptors + 4: set_half(queue.descriptors, offset & 4, value); break;
    case kQueueDriver:
    case kQueueDriver + 4: set_half(queue.available_ring, offset & 4, value); break;
    case kQueueDevice:
    case kQueueDevice + 4: set_half(queue.used_ring, offset & 4, value); break;
    default: break;
  }
}

void VirtioMmio::write_status(uint32_t value) {
  if (value == 0) return reset();
  const bool acceptable = !(driver_features_ & ~features_) && driver_features_ & kVersion1;
  if (value & kFeaturesOk && !(status_ & kFeaturesOk) && !acceptable) value &= ~kFeaturesOk;
  // The driver sets bits one after another; only a reset clears any.
  status_ |= value & 0xff & ~kNeedsReset;
}

void VirtioMmio::reset() {
  for (Virtqueue& queue : queues_) queue.reset();
  driver_features_ = 0;
  device_features_select_ = driver_features_select_ = queue_select_ = 0;
  status_ = interrupt_status_ = 0;
}

Virtqueue* VirtioMmio::running(uint16_t queue) {
  const uint32_t up = kDriverOk | kFeaturesOk;
  if ((status_ & (up | kNeedsReset)) != up || !queues_[queue].ready()) return nullptr;
  return &queues_[queue];
}

void VirtioMmio::settle(Virtqueue& queue, bool gave_back) {
  if (gave_back && queue.wants_interrupt(memory_)) raise(kUsedBuffer);
  if (!queue.broken() || status_ & kNeedsReset) return;
  status_ |= kNeedsReset;
  if (status_ & kDriverOk) raise(kConfigurationChange);
}

void VirtioMmio::raise(uint32_t reason) {
  const bool was_pending = interrupt_status_;
  interrupt_status_ |= reason;
  if (!was_pending) interrupt();
}

void VirtioMmio::save(StateWriter& out) const {
  for (const Virtqueue& queue : queues_) queue.save(out);
  out.put(driver_features_);
  for (uint32_t value :
       {device_features_select_, driver_features_select_, queue_select_, status_, interrupt_status_})
    out.put(value);
}

void VirtioMmio::restore(StateReader& in) {
  for (Virtqueue& queue : queues_) queue.restore(in);
  in.get(driver_features_);
  for (uint32_t* value :
       {&device_features_select_, &driver_features_select_, &queue_select_, &status_, &interrupt_status_})
    in.get(*value);
}

}  // namespace lockstep
