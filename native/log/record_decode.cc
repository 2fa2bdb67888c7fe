#include "log/record_codec.h"

namespace lockstep {
namespace {

// `memory` and `inputs` are null when the list is only passed over.
void decode_inputs(Cursor& cursor, std::vector<Input>* inputs, size_t* memory) {
  for (bool more = true; more && cursor.good();) {
    const uint8_t first = cursor.byte();
    Input input;
    uint64_t length = first + uint64_t{1};
    more = false;
    if (first >= 0x80) {
      more = first >> 6 & 1;
      const uint8_t kind = first >> 3 & 7;
      input.kind = static_cast<InputKind>(kind);
      if (input.kind == InputKind::kPacket) {
        const size_t high = first & 7;
        length = high < kLongPacket >> 8 ? high << 8 | cursor.byte() : kLongPacket + cursor.varint();
        if (length < kLongPacket && high == kLongPacket >> 8) return cursor.fail("a number is too long");
      } else {
        input.channel = first >> 1 & 3;
        if (input.channel == 3) input.channel = cursor.byte();
        length = first & 1 ? kUsualLength[kind] : cursor.varint();
      }
    }
    const std::span<const uint8_t> bytes = cursor.bytes(length);
    if (inputs == nullptr || !cursor.good()) continue;
    if (*memory < kInputMemory + length) return cursor.fail("it holds too many inputs");
    *memory -= kInputMemory + length;
    input.bytes.assign(bytes.begin(), bytes.end());
    inputs->push_back(std::move(input));
  }
}

// `event` and `memory` are null when it is only passed over.
void decode_event(Cursor& cursor, const DeltaState& state, Event* event, size_t* memory) {
  const uint8_t first = cursor.byte();
  uint64_t accesses = first & 7;
  const unsigned time = first >> 3 & 3;
  const unsigned inputs = first >> 5;
  if (accesses == 7) {
    const uint64_t rest = cursor.varint();
    if (rest > UINT64_MAX - 7) return cursor.fail("a number is too long");
    accesses += rest;
  }
  const auto access_hash = static_cast<uint16_t>(cursor.fixed(2));
  size_t length = inputs == 1 ? 1 : 0;
  uint64_t packed_time = 0;
  if (inputs == 2) {
    const uint8_t packed = cursor.byte();
    length = 2 + (packed & 7);
    packed_time = packed >> 3;
  }
  uint64_t passed = 0;
  if (time == 1 || time == 2) {
    passed = cursor.fixed(time + 1) | packed_time << (8 * (time + 1));
  } else {
    if (packed_time != 0) return cursor.fail("a time has bits that it cannot have");
    if (time == 3) passed = unzigzag(cursor.varint());
  }
  if (event != nullptr) {
    event->lsn = state.lsn + 1;
    event->accesses = accesses;
    event->access_hash = access_hash;
    if (time > 0) event->time_us = state.time_us + passed;
  }
  if (inputs == 3) return decode_inputs(cursor, event ? &event->inputs : nullptr, memory);
  const std::span<const uint8_t> line = cursor.bytes(length);
  if (event != nullptr && !line.empty())
    event->inputs.push_back({InputKind::kData, 0, Bytes(line.begin(), line.end())});
}

void decode_registers(Cursor& cursor, const DeltaState& state, std::vector<uint64_t>& values) {
  const size_t count = cursor.byte();
  if (count == 0) return cursor.fail("a digest of no registers");
  values = state.registers;
  values.resize(count);
  for (uint64_t& value : values) value += unzigzag(cursor.varint());
}

void decode_pages(Cursor& cursor, std::vector<PageHash>& pages, size_t& memory) {
  const uint64_t count = cursor.varint();
  // A page takes five bytes at least: no count can make us allocate more than the bytes are worth.
  if (count == 0 || count > cursor.left() / 5 || count * sizeof(PageHash) > memory)
    return cursor.fail("a digest has a wrong number of pages");
  memory -= count * sizeof(PageHash);
  pages.resize(count);
  uint64_t previous = 0;
  for (PageHash& page : pages) {
    previous += cursor.varint();
    page = {previous, static_cast<uint32_t>(cursor.fixed(4))};
  }
}

Digest decode_digest(Cursor& cursor, DeltaState& state, size_t& memory) {
  Digest digest;
  const uint8_t flags = cursor.byte();
  if (flags > (kHasMemory | kIsWhole | kHasRegisters | kHasPages)) cursor.fail("a digest has unknown flags");
  digest.lsn = state.lsn + unzigzag(cursor.varint());
  digest.accesses = cursor.varint();
  digest.registers = cursor.fixed(8);
  digest.devices = cursor.fixed(8);
  if (flags & kHasMemory) digest.memory = cursor.fixed(8);
  digest.whole = flags & kIsWhole;
  const uint8_t moved = cursor.byte();
  if (moved >> kOutputChannels != 0) cursor.fail("a digest has unknown channels");
  digest.channels = state.channels;
  for (size_t i = 0; i < kOutputChannels; i++) {
    if (!(moved >> i & 1)) continue;
    digest.channels[i].bytes += cursor.varint();
    digest.channels[i].hash = cursor.fixed(8);
  }
  if (flags & kHasRegisters) {
    decode_registers(cursor, state, digest.register_values);
    state.registers = digest.register_values;
  }
  if (flags & kHasPages) decode_pages(cursor, digest.pages, memory);
  state.channels = digest.channels;
  return digest;
}

End decode_end(Cursor& cursor, DeltaState& state) {
  End end;
  end.accesses = cursor.varint();
  end.access_hash = static_cast<uint16_t>(cursor.fixed(2));
  end.reason = static_cast<EndReason>(cursor.byte());
  if (end.reason > EndReason::kFailed) cursor.fail("it ended for an unknown reason");
  const uint64_t status = cursor.varint();
  if (status > UINT32_MAX) cursor.fail("its exit status is too large");
  end.status = static_cast<uint32_t>(status);
  state.ended = true;
  return end;
}

Takeover decode_takeover(Cursor& cursor, const DeltaState& state) {
  Takeover takeover;
  takeover.lsn = state.lsn + unzigzag(cursor.varint());
  takeover.generation = cursor.varint();
  return takeover;
}

Checkpoint decode_checkpoint(Cursor& cursor, DeltaState& state, size_t& memory) {
  Checkpoint checkpoint;
  const uint8_t last = cursor.byte();
  if (last > 1) cursor.fail("a checkpoint has unknown flags");
  checkpoint.last = last;
  checkpoint.lsn = state.lsn + 1;
  checkpoint.accesses = cursor.varint();
  checkpoint.access_hash = static_cast<uint16_t>(cursor.fixed(2));
  checkpoint.time_us = state.time_us + unzigzag(cursor.varint());
  const uint64_t vcpu_bytes = cursor.varint();
  if (vcpu_bytes > kVcpuBytesMax || vcpu_bytes > memory) cursor.fail("a checkpoint of too large a vCPU");
  if (!cursor.good()) return checkpoint;
  const std::span<const uint8_t> vcpu = cursor.bytes(vcpu_bytes);
  checkpoint.vcpu.assign(vcpu.begin(), vcpu.end());
  memory -= vcpu_bytes;
  const uint64_t count = cursor.varint();
  if (count > cursor.left() / kPageBytesLogged || count * (kPageBytesLogged + kInputMemory) > memory)
    cursor.fail("a checkpoint has a wrong number of pages");
  if (!cursor.good()) return checkpoint;
  memory -= count * (kPageBytesLogged + kInputMemory);
  uint64_t previous = 0;
  for (uint64_t i = 0; i < count && cursor.good(); i++) {
    previous += cursor.varint();
    const std::span<const uint8_t> bytes = cursor.bytes(kPageBytesLogged);
    checkpoint.pages.push_back({previous, Bytes(bytes.begin(), bytes.end())});
  }
  if (!checkpoint.last) return checkpoint;
  state.lsn = checkpoint.lsn;
  state.time_us = checkpoint.time_us;
  return checkpoint;
}

}  // namespace

Record decode_record(Cursor& cursor, DeltaState& state, size_t& memory) {
  if (state.ended) cursor.fail("something follows the end");
  if (memory < kRecordMemory) cursor.fail("it holds too many records");
  if (!cursor.good()) return {};
  memory -= kRecordMemory;
  if (cursor.peek() < 0x80) {
    Event event;
    decode_event(cursor, state, &event, &memory);
    state.lsn = event.lsn;
    if (event.time_us) state.time_us = *event.time_us;
    return event;
  }
  switch (cursor.byte()) {
    case kDigestTag: return decode_digest(cursor, state, memory);
    case kEndTag: return decode_end(cursor, state);
    case kTakeoverTag: return decode_takeover(cursor, state);
    case kCheckpointTag: return decode_checkpoint(cursor, state, memory);
  }
  cursor.fail("a record is of an unknown kind");
  return {};
}

void skip_event(Cursor& cursor) { decode_event(cursor, {}, nullptr, nullptr); }

}  // namespace lockstep
