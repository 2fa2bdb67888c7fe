#include "link/console_message.h"

#include "error.h"
#include "link/wire.h"

namespace lockstep {
namespace {

using namespace console_message;

// By place in ConsoleMessage. A server's messages have the high bit set.
constexpr uint8_t kTypes[] = {0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x81, 0x82, 0x83, 0x84, 0x85};
static_assert(std::size(kTypes) == std::variant_size_v<ConsoleMessage>);
constexpr uint8_t kOutputType = 0x82;

void put_offsets(WireWriter& w, const std::vector<ChannelOffset>& offsets) {
  w.u8(static_cast<uint8_t>(offsets.size()));
  for (const ChannelOffset& o : offsets) {
    w.u8(o.channel);
    w.u64(o.offset);
  }
}

std::vector<ChannelOffset> get_offsets(WireReader& r) {
  std::vector<ChannelOffset> offsets(r.u8());
  for (ChannelOffset& o : offsets) {
    o.channel = r.u8();
    o.offset = r.u64();
  }
  return offsets;
}

struct Writer {
  WireWriter w;
  void operator()(const Hello& m) {
    w.u32(m.version);
    w.text8(m.pair_id);
    put_offsets(w, m.have);
  }
  void operator()(const OutputAck& m) {
    w.u8(m.channel);
    w.u64(m.offset);
  }
  void operator()(const console_message::Input& m) {
    w.u64(m.offset);
    w.bytes(m.bytes);
  }
  void operator()(const InputEof& m) { w.u64(m.offset); }
  void operator()(const Signal& m) { w.u8(m.number); }
  void operator()(const Window& m) {
    w.u16(m.rows);
    w.u16(m.columns);
  }
  void operator()(const Welcome& m) {
    w.u32(m.version);
    w.text8(m.pair_id);
    w.u64(m.generation);
    w.u64(m.input_offset);
    w.u8(m.input_ended ? 1 : 0);
    w.u32(m.input_window);
    put_offsets(w, m.output_start);
  }
  void operator()(const Output& m) {
    w.u8(m.channel);
    w.u64(m.offset);
    w.bytes(m.bytes);
  }
  void operator()(const InputAck& m) {
    w.u64(m.offset);
    w.u8(m.eof ? 1 : 0);
  }
  void operator()(const Ended& m) {
    w.u8(m.reason);
    w.u32(m.status);
    put_offsets(w, m.totals);
  }
  void operator()(const Error& m) {
    w.text8(m.code);
    w.text16(m.text);
  }
};

[[noreturn]] void damaged(const std::string& what) {
  throw Failure("ERR_LOCKSTEP_CONSOLE_PROTOCOL", "The console peer broke the protocol: " + what);
}

ConsoleMessage read(uint8_t type, WireReader& r) {
  switch (type) {
    case 0x01: {
      Hello m;
      m.version = r.u32();
      // Another version may have other fields: only the number is ours to read.
      if (m.version != kConsoleVersion) {
        (void)r.all();
        return m;
      }
      m.pair_id = r.text8();
      m.have = get_offsets(r);
      return m;
    }
    case 0x02: {
      OutputAck m;
      m.channel = r.u8();
      m.offset = r.u64();
      return m;
    }
    case 0x03: {
      console_message::Input m;
      m.offset = r.u64();
      m.bytes = r.all();
      return m;
    }
    case 0x04: return InputEof{r.u64()};
    case 0x05: return Signal{r.u8()};
    case 0x06: {
      Window m;
      m.rows = r.u16();
      m.columns = r.u16();
      return m;
    }
    case 0x81: {
      Welcome m;
      m.version = r.u32();
      m.pair_id = r.text8();
      m.generation = r.u64();
      m.input_offset = r.u64();
      m.input_ended = r.u8() != 0;
      m.input_window = r.u32();
      m.output_start = get_offsets(r);
      return m;
    }
    case kOutputType: {
      Output m;
      m.channel = r.u8();
      m.offset = r.u64();
      m.bytes = r.all();
      return m;
    }
    case 0x83: {
      InputAck m;
      m.offset = r.u64();
      m.eof = r.u8() != 0;
      return m;
    }
    case 0x84: {
      Ended m;
      m.reason = r.u8();
      m.status = r.u32();
      m.totals = get_offsets(r);
      return m;
    }
    case 0x85: {
      Error m;
      m.code = r.text8();
      m.text = r.text16();
      return m;
    }
    default: damaged("a message of unknown type " + std::to_string(type) + ".");
  }
}

}  // namespace

Bytes encode_console(const ConsoleMessage& message) {
  Bytes out;
  out.reserve(64);
  WireWriter w(&out);
  w.u32(0);  // the length, once it is known
  w.u8(kTypes[message.index()]);
  std::visit(Writer{w}, message);
  size_t length = out.size() - 4;
  for (size_t i = 0; i < 4; i++) out[i] = static_cast<uint8_t>(length >> (8 * i));
  return out;
}

std::array<uint8_t, 14> output_head(uint8_t channel, uint64_t offset, size_t bytes) {
  std::array<uint8_t, 14> head{};
  size_t length = 10 + bytes;
  for (size_t i = 0; i < 4; i++) head[i] = static_cast<uint8_t>(length >> (8 * i));
  head[4] = kOutputType;
  head[5] = channel;
  for (size_t i = 0; i < 8; i++) head[6 + i] = static_cast<uint8_t>(offset >> (8 * i));
  return head;
}

size_t parse_console(std::span<const uint8_t> bytes, ConsoleMessage* message) {
  if (bytes.size() < 4) return 0;
  WireReader head(bytes);
  size_t length = head.u32();
  if (length < 1 || length > kConsoleMessageMax) damaged("a message of impossible length.");
  if (bytes.size() < 4 + length) return 0;
  WireReader fields(bytes.subspan(5, length - 1));
  *message = read(bytes[4], fields);
  if (!fields.done()) damaged("a message whose fields do not fit its length.");
  return 4 + length;
}

}  // namespace lockstep
