#include <algorithm>

#include "error.h"
#include "log/record_codec.h"

namespace lockstep {
namespace {

[[noreturn]] void refuse(const std::string& why) {
  throw Failure("ERR_LOCKSTEP_INTERNAL", "this record has no place in a log: " + why);
}

void require(bool right, const char* what) {
  if (!right) refuse(what);
}

// Numbers are put into words only where the message is needed: every event comes by here.
void require_next(uint64_t lsn, const DeltaState& state, const char* kind) {
  if (lsn != state.lsn + 1)
    refuse(std::string(kind) + " " + std::to_string(lsn) + " after event " + std::to_string(state.lsn));
}

void encode_inputs(const std::vector<Input>& inputs, Bytes& out) {
  for (const Input& input : inputs) {
    const bool last = &input == &inputs.back();
    const size_t length = input.bytes.size();
    const auto kind = static_cast<uint8_t>(input.kind);
    if (last && input.kind == InputKind::kData && input.channel == 0 && length >= 1 && length <= 0x80) {
      out.push_back(static_cast<uint8_t>(length - 1));
    } else if (input.kind == InputKind::kPacket) {
      const auto high = static_cast<uint8_t>(std::min(length, kLongPacket) >> 8);
      out.push_back(static_cast<uint8_t>(0x80 | !last << 6 | kind << 3 | high));
      if (length < kLongPacket)
        out.push_back(static_cast<uint8_t>(length));
      else
        put_varint(out, length - kLongPacket);
    } else {
      const bool usual = length == kUsualLength[kind];
      const uint8_t channel = std::min<uint8_t>(input.channel, 3);
      out.push_back(static_cast<uint8_t>(0x80 | !last << 6 | kind << 3 | channel << 1 | usual));
      if (channel == 3) out.push_back(input.channel);
      if (!usual) put_varint(out, length);
    }
    out.insert(out.end(), input.bytes.begin(), input.bytes.end());
  }
}

void encode_event(const Event& event, DeltaState& state, Bytes& out) {
  require_next(event.lsn, state, "event");
  for (const Input& input : event.inputs)
    require(static_cast<uint8_t>(input.kind) < kInputKinds &&
                (input.kind != InputKind::kPacket || input.channel == 0),
            "an input of an unknown kind");

  const bool one_on_console =
      event.inputs.size() == 1 && event.inputs[0].kind == InputKind::kData && event.inputs[0].channel == 0;
  const size_t length = one_on_console ? event.inputs[0].bytes.size() : 0;
  const bool short_line = length >= 2 && length <= 9;
  const unsigned inputs = event.inputs.empty() ? 0 : length == 1 ? 1 : short_line ? 2 : 3;

  const uint64_t passed = event.time_us ? *event.time_us - state.time_us : 0;
  const unsigned packed_bits = short_line ? 5 : 0;
  unsigned time = 0;
  if (event.time_us) time = passed >> (16 + packed_bits) == 0 ? 1 : passed >> (24 + packed_bits) == 0 ? 2 : 3;

  const uint64_t accesses = std::min<uint64_t>(event.accesses, 7);
  out.push_back(static_cast<uint8_t>(accesses | time << 3 | inputs << 5));
  if (accesses == 7) put_varint(out, event.accesses - 7);
  put_fixed(out, event.access_hash, 2);
  const unsigned time_bytes = time + 1;
  if (short_line) {
    const uint64_t high = time == 1 || time == 2 ? passed >> (8 * time_bytes) : 0;
    out.push_back(static_cast<uint8_t>((length - 2) | high << 3));
  }
  if (time == 3) {
    put_varint(out, zigzag(passed));
  } else if (time > 0) {
    put_fixed(out, passed, time_bytes);
  }
  if (inputs == 3) {
    encode_inputs(event.inputs, out);
  } else if (inputs > 0) {
    out.insert(out.end(), event.inputs[0].bytes.begin(), event.inputs[0].bytes.end());
  }
  state.lsn = event.lsn;
  if (event.time_us) state.time_us = *event.time_us;
}

void encode_registers(const std::vector<uint64_t>& values, DeltaState& state, Bytes& out) {
  out.push_back(static_cast<uint8_t>(values.size()));
  state.registers.resize(values.size());
  for (size_t i = 0; i < values.size(); i++) put_varint(out, zigzag(values[i] - state.registers[i]));
  state.registers = values;
}

void encode_pages(const std::vector<PageHash>& pages, Bytes& out) {
  put_varint(out, pages.size());
  uint64_t previous = 0;
  for (const PageHash& page : pages) {
    put_varint(out, page.page - previous);
    put_fixed(out, page.hash, 4);
    previous = page.page;
  }
}

void encode_digest(const Digest& digest, DeltaState& state, Bytes& out) {
  require(digest.register_values.size() <= kRegisterValuesMax, "a digest of too many registers");
  out.push_back(kDigestTag);
  out.push_back(static_cast<uint8_t>((digest.memory ? kHasMemory : 0) | (digest.whole ? kIsWhole : 0) |
                                     (digest.register_values.empty() ? 0 : kHasRegisters) |
                                     (digest.pages.empty() ? 0 : kHasPages)));
  put_varint(out, zigzag(digest.lsn - state.lsn));
  put_varint(out, digest.accesses);
  put_fixed(out, digest.registers, 8);
  put_fixed(out, digest.devices, 8);
  if (digest.memory) put_fixed(out, *digest.memory, 8);
  uint8_t moved = 0;
  for (size_t i = 0; i < kOutputChannels; i++) moved |= (digest.channels[i] != state.channels[i]) << i;
  out.push_back(moved);
  for (size_t i = 0; i < kOutputChannels; i++) {
    if (!(moved >> i & 1)) continue;
    put_varint(out, digest.channels[i].bytes - state.channels[i].bytes);
    put_fixed(out, digest.channels[i].hash, 8);
  }
  state.channels = digest.channels;
  if (!digest.register_values.empty()) encode_registers(digest.register_values, state, out);
  if (!digest.pages.empty()) encode_pages(digest.pages, out);
}

void encode_end(const End& end, DeltaState& state, Bytes& out) {
  require(end.reason <= EndReason::kFailed, "an end for an unknown reason");
  out.push_back(kEndTag);
  put_varint(out, end.accesses);
  put_fixed(out, end.access_hash, 2);
  out.push_back(static_cast<uint8_t>(end.reason));
  put_varint(out, end.status);
  state.ended = true;
}

void encode_takeover(const Takeover& takeover, DeltaState& state, Bytes& out) {
  out.push_back(kTakeoverTag);
  put_varint(out, zigzag(takeover.lsn - state.lsn));
  put_varint(out, takeover.generation);
}

void encode_checkpoint(const Checkpoint& checkpoint, DeltaState& state, Bytes& out) {
  require_next(checkpoint.lsn, state, "checkpoint");
  require(checkpoint.vcpu.size() <= kVcpuBytesMax, "a checkpoint of too large a vCPU");
  out.push_back(kCheckpointTag);
  out.push_back(checkpoint.last);
  put_varint(out, checkpoint.accesses);
  put_fixed(out, checkpoint.access_hash, 2);
  put_varint(out, zigzag(checkpoint.time_us - state.time_us));
  put_varint(out, checkpoint.vcpu.size());
  out.insert(out.end(), checkpoint.vcpu.begin(), checkpoint.vcpu.end());
  put_varint(out, checkpoint.pages.size());
  uint64_t previous = 0;
  for (const PageBytes& page : checkpoint.pages) {
    require(page.bytes.size() == kPageBytesLogged, "a page of another size");
    put_varint(out, page.page - previous);
    out.insert(out.end(), page.bytes.begin(), page.bytes.end());
    previous = page.page;
  }
  if (!checkpoint.last) return;
  state.lsn = checkpoint.lsn;
  state.time_us = checkpoint.time_us;
}

}  // namespace

void encode_record(const Record& record, DeltaState& state, Bytes& out) {
  require(!state.ended, "it comes after the end");
  if (const auto* event = std::get_if<Event>(&record)) return encode_event(*event, state, out);
  if (const auto* digest = std::get_if<Digest>(&record)) return encode_digest(*digest, state, out);
  if (const auto* end = std::get_if<End>(&record)) return encode_end(*end, state, out);
  if (const auto* takeover = std::get_if<Takeover>(&record)) return encode_takeover(*takeover, state, out);
  if (const auto* checkpoint = std::get_if<Checkpoint>(&record))
    return encode_checkpoint(*checkpoint, state, out);
  require(false, "progress goes over the link only");
}

RecordSize size_bound(const Record& record) {
  RecordSize size{64, kRecordMemory};
  if (const auto* event = std::get_if<Event>(&record)) {
    for (const Input& input : event->inputs) {
      size.bytes += 12 + input.bytes.size();
      size.memory += kInputMemory + input.bytes.size();
    }
  } else if (const auto* digest = std::get_if<Digest>(&record)) {
    size.bytes += kOutputChannels * 18 + digest->register_values.size() * 10 + digest->pages.size() * 14;
    size.memory += digest->register_values.size() * 8 + digest->pages.size() * sizeof(PageHash);
  } else if (const auto* checkpoint = std::get_if<Checkpoint>(&record)) {
    size.bytes += checkpoint->vcpu.size() + checkpoint->pages.size() * (kPageBytesLogged + 10);
    size.memory += checkpoint->vcpu.size() + checkpoint->pages.size() * (kPageBytesLogged + kInputMemory);
  }
  return size;
}

}  // namespace lockstep
