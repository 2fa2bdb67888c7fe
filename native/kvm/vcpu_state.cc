// A vCPU's state as bytes, for checkpoints.
#include <cstring>

#include "kvm/vcpu.h"

namespace lockstep {

namespace {

// Every part of fixed size, in one order for both ways.
template <typename State, typename Each>
void for_each_part(State& state, Each each) {
  each(&state.regs, sizeof state.regs);
  each(&state.sregs, sizeof state.sregs);
  each(&state.xcrs, sizeof state.xcrs);
  each(state.xsave.data(), state.xsave.size());
  each(&state.debug, sizeof state.debug);
  each(&state.events, sizeof state.events);
  each(&state.mp, sizeof state.mp);
}

}  // namespace

std::vector<uint8_t> encode_vcpu_state(const VcpuState& state) {
  std::vector<uint8_t> bytes;
  auto put = [&bytes](const void* data, size_t size) {
    const auto* from = static_cast<const uint8_t*>(data);
    bytes.insert(bytes.end(), from, from + size);
  };
  for_each_part(state, put);
  put(state.msrs.data(), state.msrs.size() * sizeof(uint64_t));
  return bytes;
}

VcpuState decode_vcpu_state(std::span<const uint8_t> bytes) {
  VcpuState state;
  bool whole = true;
  auto take = [&](void* data, size_t size) {
    whole = whole && bytes.size() >= size;
    if (!whole) return;
    std::memcpy(data, bytes.data(), size);
    bytes = bytes.subspan(size);
  };
  for_each_part(state, take);
  state.msrs.resize(bytes.size() / sizeof(uint64_t));
  take(state.msrs.data(), state.msrs.size() * sizeof(uint64_t));
  if (!whole || !bytes.empty() || state.msrs.size() > KvmVcpu::kStateMsrCount)
    throw Failure("ERR_LOCKSTEP_LOG_DAMAGED", "a checkpoint holds no vCPU state of this version",
                  "replay the log with the Lockstep that wrote it");
  return state;
}

// KVM_GET_VCPU_EVENTS leaves a #BP out that is still to be delivered: as long as RIP stands at the INT3, it
// comes again by itself. Some back ends (pvm) have moved RIP by then, and the exception would be lost.
bool KvmVcpu::stands_behind_int3(const VcpuState& state, const GuestMemory& memory) const {
  constexpr uint8_t kInt3 = 0xcc;
  kvm_translation at{};
  at.linear_address = state.regs.rip - 1;
  kvm_ioctl(fd(), KVM_TRANSLATE, &at, "KVM_TRANSLATE");
  uint8_t byte;
  return at.valid && memory.load(at.physical_address, &byte) && byte == kInt3;
}

bool KvmVcpu::can_interrupt(const VcpuState& state, const GuestMemory& memory) const {
  constexpr uint64_t kInterruptFlag = 1 << 9;
  const kvm_vcpu_events& events = state.events;
  return (state.regs.rflags & kInterruptFlag) && !events.exception.injected && !events.exception.pending &&
         !events.interrupt.injected && !events.interrupt.shadow && !events.nmi.injected &&
         !events.nmi.pending && !stands_behind_int3(state, memory);
}

}  // namespace lockstep
