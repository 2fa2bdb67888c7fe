#include "device/virtqueue.h"

#include <bit>

namespace lockstep {

namespace {

struct Descriptor {
  uint64_t gpa;
  uint32_t bytes;
  uint16_t flags, next;
};
static_assert(sizeof(Descriptor) == 16);
constexpr uint16_t kNext = 1, kWrite = 2, kIndirect = 4;

struct UsedElement {
  uint32_t head, bytes;
};

constexpr uint16_t kNoInterrupt = 1;
// Both rings begin with flags and an index of two bytes each.
constexpr uint64_t kIndex = 2, kRing = 4;

}  // namespace

bool Virtqueue::enable(const GuestMemory& memory) {
  taken_ = given_back_ = 0;
  const bool right = std::has_single_bit(size) && size <= kSizeMax && descriptors % 16 == 0 &&
                     available_ring % 2 == 0 && used_ring % 4 == 0 &&
                     memory.contains(descriptors, size * sizeof(Descriptor)) &&
                     memory.contains(available_ring, kRing + size * 2) &&
                     memory.contains(used_ring, kRing + size * sizeof(UsedElement));
  ready_ = right;
  broken_ = broken_ || !right;
  return right;
}

uint16_t Virtqueue::waiting(const GuestMemory& memory) {
  uint16_t index = 0;
  if (!ready_ || broken_) return 0;
  memory.load(available_ring + kIndex, &index);
  const auto count = static_cast<uint16_t>(index - taken_);
  if (count <= size) return count;
  broken_ = true;
  return 0;
}

bool Virtqueue::follow(const GuestMemory& memory, VirtqueueChain* chain) const {
  uint16_t index = chain->head;
  for (uint16_t passed = 0; passed < size; passed++) {
    if (index >= size) return false;
    Descriptor descriptor{};
    memory.load(descriptors + index * sizeof descriptor, &descriptor);
    if (descriptor.flags & kIndirect || !memory.contains(descriptor.gpa, descriptor.bytes)) return false;
    const bool writable = descriptor.flags & kWrite;
    if (!writable && !chain->writable.empty()) return false;  // what is readable comes first
    (writable ? chain->writable : chain->readable).push_back({descriptor.gpa, descriptor.bytes});
    (writable ? chain->writable_bytes : chain->readable_bytes) += descriptor.bytes;
    if (!(descriptor.flags & kNext)) return true;
    index = descriptor.next;
  }
  return false;  // a loop
}

std::optional<VirtqueueChain> Virtqueue::take(const GuestMemory& memory) {
  if (!waiting(memory)) return std::nullopt;
  VirtqueueChain chain;
  memory.load(available_ring + kRing + taken_ % size * 2, &chain.head);
  if (!follow(memory, &chain)) {
    broken_ = true;
    return std::nullopt;
  }
  taken_++;
  return chain;
}

void Virtqueue::give_back(GuestMemory& memory, const VirtqueueChain& chain, uint32_t bytes) {
  memory.store(used_ring + kRing + given_back_ % size * sizeof(UsedElement), UsedElement{chain.head, bytes});
  given_back_++;
  memory.store(used_ring + kIndex, given_back_);
}

bool Virtqueue::wants_interrupt(const GuestMemory& memory) const {
  uint16_t flags = 0;
  memory.load(available_ring, &flags);
  return !(flags & kNoInterrupt);
}

void Virtqueue::save(StateWriter& out) const {
  out.put(size);
  out.put(descriptors);
  out.put(available_ring);
  out.put(used_ring);
  out.put(ready_);
  out.put(broken_);
  out.put(taken_);
  out.put(given_back_);
}

void Virtqueue::restore(StateReader& in) {
  in.get(size);
  in.get(descriptors);
  in.get(available_ring);
  in.get(used_ring);
  in.get(ready_);
  in.get(broken_);
  in.get(taken_);
  in.get(given_back_);
  if (ready_ && (!std::has_single_bit(size) || size > kSizeMax))
    throw Failure("ERR_LOCKSTEP_STATE_DAMAGED", "a queue in use has an impossible size");
}

}  // namespace lockstep
