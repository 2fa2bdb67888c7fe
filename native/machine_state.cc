#include "machine_state.h"

namespace lockstep {

namespace {

constexpr uint32_t kVersion = 2;
constexpr size_t kVectorsMax = 256;

// One order for both ways.
template <typename State, typename Number, typename Block>
void for_each_part(State& state, Number number, Block block) {
  number(state.at.lsn);
  number(state.at.accesses);
  number(state.at.accesses_total);
  number(state.at.hash);
  number(state.at.time_us);
  number(state.at.input_bytes);
  number(state.at.input_ended);
  number(state.at_position);
  number(state.halted);
  number(state.last_memory_us);
  block(state.vcpu);
  block(state.devices);
  block(state.vectors);
  for (auto& bytes : state.channel_bytes) number(bytes);
  for (auto& hash : state.channel_hashes) block(hash);
}

template <typename At, typename Number>
void for_each_part_of_access(At& at, Number number) {
  number(at.space);
  number(at.address);
  number(at.size);
  number(at.value);
}

}  // namespace

Bytes encode_machine_state(const MachineState& state) {
  StateWriter out;
  out.put(kVersion);
  out.put(state.waits_at.has_value());
  if (state.waits_at) for_each_part_of_access(*state.waits_at, [&](const auto& number) { out.put(number); });
  for_each_part(
      state, [&](const auto& number) { out.put(number); }, [&](const Bytes& bytes) { out.put_bytes(bytes); });
  return out.bytes();
}

MachineState decode_machine_state(std::span<const uint8_t> bytes) {
  StateReader in(bytes);
  uint32_t version = 0;
  in.get(version);
  if (version != kVersion)
    throw Failure("ERR_LOCKSTEP_STATE_DAMAGED", "the machine's state is of version " +
                                                    std::to_string(version) + ", this build reads version " +
                                                    std::to_string(kVersion));
  MachineState state;
  bool waits;
  in.get(waits);
  if (waits) for_each_part_of_access(state.waits_at.emplace(), [&](auto& number) { in.get(number); });
  for_each_part(
      state, [&](auto& number) { in.get(number); }, [&](Bytes& block) { block = in.get_bytes(); });
  in.check_end();
  if (state.at.lsn == 0 || state.vectors.size() > kVectorsMax ||
      (state.waits_at && state.waits_at->space > Space::kHalt))
    throw Failure("ERR_LOCKSTEP_STATE_DAMAGED", "the machine's state cannot be one");
  return state;
}

}  // namespace lockstep
