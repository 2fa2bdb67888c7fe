#include "device/virtio_net.h"

#include <algorithm>

#include "net/frame.h"

namespace lockstep {

namespace {

constexpr uint32_t kNetworkCard = 1;
constexpr uint64_t kMtu = 1ull << 3, kMac = 1ull << 5, kVersion1 = 1ull << 32;
constexpr size_t kHeaderBytes = 12;
// In front of what is received: no offload, and one buffer.
constexpr std::array<uint8_t, kHeaderBytes> kReceiveHeader{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0};

// Reads or writes the parts of a chain as if they were one stretch of memory.
class Stretch {
 public:
  Stretch(GuestMemory& memory, const std::vector<VirtqueueChain::Part>& parts)
      : memory_(memory), parts_(parts) {}
  void skip(size_t bytes) {
    walk(bytes, [](uint64_t, size_t) {});
  }
  void append_to(Bytes& out, size_t bytes) {
    walk(bytes, [&](uint64_t gpa, size_t length) {
      const auto view = memory_.view(gpa, length);
      out.insert(out.end(), view.begin(), view.end());
    });
  }
  void store(std::span<const uint8_t> bytes) {
    walk(bytes.size(), [&](uint64_t gpa, size_t length) {
      memory_.write(gpa, bytes.first(length));
      bytes = bytes.subspan(length);
    });
  }

 private:
  template <typename Visit>
  void walk(size_t bytes, Visit visit) {
    while (bytes > 0 && at_ < parts_.size()) {
      const size_t length = std::min<size_t>(bytes, parts_[at_].bytes - offset_);
      if (length > 0) visit(parts_[at_].gpa + offset_, length);
      bytes -= length;
      offset_ += length;
      if (offset_ < parts_[at_].bytes) continue;
      at_++;
      offset_ = 0;
    }
  }
  GuestMemory& memory_;
  const std::vector<VirtqueueChain::Part>& parts_;
  size_t at_ = 0, offset_ = 0;
};

}  // namespace

VirtioNet::VirtioNet(Sink& sink, GuestMemory& memory, const VirtioNetConfig& config)
    : VirtioMmio(memory, config.gpa, kNetworkCard, kVersion1 | kMac | kMtu, 2),
      sink_(sink),
      interrupts_(config.interrupts),
      frame_bytes_max_(frame_bytes_max(config.mtu)) {
  std::copy(config.mac.begin(), config.mac.end(), configuration_.begin());
  configuration_[6] = 1;  // the link is up
  configuration_[8] = 1;  // one pair of queues
  configuration_[10] = static_cast<uint8_t>(config.mtu);
  configuration_[11] = static_cast<uint8_t>(config.mtu >> 8);
}

void VirtioNet::notified(uint16_t queue) {
  if (queue == kTransmit) transmit();
}

// Packets enter where the driver speaks to its card: it notifies when it has added buffers.
Want VirtioNet::want(const Access& access) {
  Want want;
  if (access.write) want.packets = room();
  return want;
}

void VirtioNet::interrupt() {
  if (interrupts_) sink_.raise(kVector);
}

uint32_t VirtioNet::room() {
  Virtqueue* queue = running(kReceive);
  if (!queue) return 0;
  const uint32_t waiting = queue->waiting(memory_);
  if (queue->broken()) settle(*queue, false);
  return waiting;
}

bool VirtioNet::append_frame(const VirtqueueChain& chain, Bytes& out) const {
  if (!chain.writable.empty() || chain.readable_bytes < kHeaderBytes + kFrameBytesMin) return false;
  const uint64_t length = chain.readable_bytes - kHeaderBytes;
  if (length > frame_bytes_max_) return false;
  put_frame_length(out, length);
  Stretch stretch(memory_, chain.readable);
  stretch.skip(kHeaderBytes);
  stretch.append_to(out, length);
  return true;
}

void VirtioNet::transmit() {
  Virtqueue* queue = running(kTransmit);
  if (!queue) return;
  Bytes frames;
  bool gave_back = false;
  // As many as there were at first: nobody adds any while the guest stands still.
  for (uint16_t left = queue->waiting(memory_); left > 0; left--) {
    const auto chain = queue->take(memory_);
    if (!chain) break;
    const size_t before = frames.size();
    if (append_frame(*chain, frames)) {
      counts_.frames_out++;
      counts_.bytes_out += frames.size() - before - kFrameLengthBytes;
    } else {
      counts_.dropped_out++;
    }
    queue->give_back(memory_, *chain, 0);
    gave_back = true;
  }
  settle(*queue, gave_back);
  if (!frames.empty()) sink_.output(kNetworkChannel, frames);
}

bool VirtioNet::deliver(const VirtqueueChain& chain, std::span<const uint8_t> frame) {
  if (!chain.readable.empty() || chain.writable_bytes < kHeaderBytes + frame.size()) return false;
  Stretch stretch(memory_, chain.writable);
  stretch.store(kReceiveHeader);
  stretch.store(frame);
  return true;
}

void VirtioNet::input(const Input& input) {
  if (input.kind != InputKind::kPacket) return;
  Virtqueue* queue = running(kReceive);
  const bool fits = input.bytes.size() >= kFrameBytesMin && input.bytes.size() <= frame_bytes_max_;
  const auto chain = queue && fits ? queue->take(memory_) : std::nullopt;
  if (!chain) {
    counts_.dropped_in++;
    if (queue) settle(*queue, false);
    return;
  }
  if (!deliver(*chain, input.bytes)) {
    // A driver must give room for a whole frame, and nothing to read.
    counts_.dropped_in++;
    queue->break_off();
    return settle(*queue, false);
  }
  counts_.frames_in++;
  counts_.bytes_in += input.bytes.size();
  queue->give_back(memory_, *chain, static_cast<uint32_t>(kHeaderBytes + input.bytes.size()));
  settle(*queue, true);
}

}  // namespace lockstep
