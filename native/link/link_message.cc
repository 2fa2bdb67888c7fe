#include "link/link_message.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "error.h"
#include "link/packer.h"
#include "link/wire.h"

namespace lockstep {
namespace {

using namespace link_message;

constexpr uint32_t kMagic = 0x4b4c534c;  // "LSLK"
constexpr size_t kSmallBytesMax = 4096;  // every message but header data and frames

// The type on the wire is the alternative's place in LinkMessage, from 1: appending keeps old ones.
constexpr uint8_t kHeaderDataType = 3;
constexpr uint8_t kFrameType = 7;
constexpr uint8_t kPagesType = 14, kKeptType = 15, kStartType = 16, kHandOverType = 17, kResumeType = 18,
                  kResumedType = 19, kWitnessType = 20, kPackedType = 21;
constexpr uint8_t kTypes = std::variant_size_v<LinkMessage>;
static_assert(std::is_same_v<std::variant_alternative_t<kFrameType - 1, LinkMessage>, Frame>);
static_assert(std::is_same_v<std::variant_alternative_t<kHeaderDataType - 1, LinkMessage>, HeaderData>);

struct Writer {
  WireWriter w;
  void operator()(const Hello& m) {
    w.u32(kMagic);
    w.u32(kLinkVersion);
    w.text8(m.shadow_id);
    w.u64(m.number);
  }
  void operator()(const Header& m) {
    w.u32(kMagic);
    w.u32(kLinkVersion);
    w.text8(m.pair_id);
    w.u64(m.generation);
    w.u64(m.header_bytes);
    w.u8(m.is_running ? 1 : 0);
  }
  void operator()(const HeaderData& m) { w.bytes(m.bytes); }
  void operator()(const Refused& m) { w.text16(m.why); }
  void operator()(const Ready&) {}
  void operator()(const Armed& m) { w.u64(m.generation); }
  void operator()(const Frame& m) { w.bytes(m.bytes); }
  void operator()(const ProgressTo& m) {
    w.u64(m.progress.lsn);
    w.u64(m.progress.accesses);
  }
  void operator()(const Released& m) {
    w.u8(m.channel);
    w.u64(m.offset);
  }
  void operator()(const Ack& m) {
    w.u64(m.received);
    w.u64(m.executed);
    w.u64(m.executed_bytes);
    w.u64(m.mark);
    w.u64(m.taken);
  }
  void operator()(const Heartbeat& m) {
    w.u64(m.time_us);
    w.u8(m.is_reply ? 1 : 0);
    w.u64(m.taken);
  }
  void operator()(const Diverged& m) { w.text16(m.what); }
  void operator()(const Ended& m) {
    w.u8(m.reason);
    w.u32(m.status);
  }
  void operator()(const Pages& m) { w.bytes(m.bytes); }
  void operator()(const Kept& m) {
    w.u8(m.channel);
    w.u64(m.offset);
    w.bytes(m.bytes);
  }
  void operator()(const Start& m) {
    w.u64(m.mark);
    w.u64(m.log_bytes);
    w.bytes(m.log_start);
  }
  void operator()(const HandOver&) {}
  void operator()(const LinkName& link) {
    w.u32(kMagic);
    w.u32(kLinkVersion);
    w.text8(link.pair_id);
    w.text8(link.shadow_id);
    w.u64(link.generation);
  }
  void operator()(const Resume& m) {
    (*this)(m.link);
    w.u64(m.number);
    w.u64(m.taken);
  }
  void operator()(const Resumed& m) { w.u64(m.taken); }
  void operator()(const Witness& m) {
    (*this)(m.link);
    w.u64(m.number);
  }
  void operator()(const Packed& m) {
    w.u32(m.plain_bytes);
    w.bytes(m.bytes);
  }
};

[[noreturn]] void damaged(const std::string& what) {
  throw Failure("ERR_LOCKSTEP_LINK_DAMAGED", "The other side of the link sent nonsense: " + what);
}

void check_version(WireReader& r) {
  if (r.u32() != kMagic) damaged("this is not a Lockstep link.");
  uint32_t version = r.u32();
  if (!r.good() || version == kLinkVersion) return;
  throw Failure("ERR_LOCKSTEP_LINK_VERSION",
                "The other side speaks version " + std::to_string(version) +
                    " of the link, this one version " + std::to_string(kLinkVersion) + ".",
                "Run the same version of Lockstep on both sides.");
}

LinkName read_link_name(WireReader& r) {
  check_version(r);
  LinkName link;
  link.pair_id = r.text8();
  link.shadow_id = r.text8();
  link.generation = r.u64();
  return link;
}

LinkMessage read(uint8_t type, WireReader& r) {
  switch (type) {
    case 1: {
      check_version(r);
      Hello m{r.text8()};
      m.number = r.u64();
      return m;
    }
    case 2: {
      check_version(r);
      Header m;
      m.pair_id = r.text8();
      m.generation = r.u64();
      m.header_bytes = r.u64();
      m.is_running = r.u8() != 0;
      if (m.header_bytes > kHeaderBytesMax) damaged("a log header of more than 4 GiB.");
      return m;
    }
    case kHeaderDataType: return HeaderData{r.all()};
    case 4: return Refused{r.text16()};
    case 5: return Ready{};
    case 6: return Armed{r.u64()};
    case kFrameType: return Frame{r.all()};
    case 8: {
      ProgressTo m;
      m.progress.lsn = r.u64();
      m.progress.accesses = r.u64();
      return m;
    }
    case 9: {
      Released m;
      m.channel = r.u8();
      m.offset = r.u64();
      if (m.channel >= kOutputChannels) damaged("a channel that does not exist.");
      return m;
    }
    case 10: {
      Ack m;
      m.received = r.u64();
      m.executed = r.u64();
      m.executed_bytes = r.u64();
      m.mark = r.u64();
      m.taken = r.u64();
      return m;
    }
    case 11: {
      Heartbeat m;
      m.time_us = r.u64();
      m.is_reply = r.u8() != 0;
      m.taken = r.u64();
      return m;
    }
    case 12: return Diverged{r.text16()};
    case kPagesType: return Pages{r.all()};
    case kKeptType: {
      Kept m;
      m.channel = r.u8();
      m.offset = r.u64();
      m.bytes = r.all();
      if (m.channel >= kOutputChannels) damaged("a channel that does not exist.");
      return m;
    }
    case kStartType: {
      Start m;
      m.mark = r.u64();
      m.log_bytes = r.u64();
      m.log_start = r.all();
      return m;
    }
    case kHandOverType: return HandOver{};
    case kResumeType: {
      Resume m{read_link_name(r)};
      m.number = r.u64();
      m.taken = r.u64();
      return m;
    }
    case kResumedType: return Resumed{r.u64()};
    case kWitnessType: {
      Witness m{read_link_name(r)};
      m.number = r.u64();
      return m;
    }
    case kPackedType: {
      Packed m;
      m.plain_bytes = r.u32();
      m.bytes = r.all();
      if (m.plain_bytes > kPieceBytesMax) damaged("a compressed piece that is too long.");
      return m;
    }
    default: {
      Ended m;
      m.reason = r.u8();
      m.status = r.u32();
      return m;
    }
  }
}

uint32_t checksum(std::span<const uint8_t> type_and_fields) {
  return static_cast<uint32_t>(XXH3_64bits(type_and_fields.data(), type_and_fields.size()));
}

size_t length_max(uint8_t type) {
  if (type == kFrameType) return kFrameBytesMax + 1;
  const bool is_piece =
      type == kHeaderDataType || type == kPagesType || type == kKeptType || type == kStartType;
  if (is_piece) return kHeaderDataBytesMax + 5 + 16;
  if (type == kPackedType) return kPieceBytesMax + kSmallBytesMax;  // compressed, and yet hardly larger
  return kSmallBytesMax;
}

}  // namespace

Bytes encode_link(const LinkMessage& message) {
  Bytes out;
  out.reserve(64);
  auto type = static_cast<uint8_t>(message.index() + 1);
  WireWriter w(&out);
  w.u32(0);  // the length, once it is known
  w.u8(type);
  std::visit(Writer{w}, message);
  if (type != kFrameType) w.u32(checksum(std::span(out).subspan(4)));
  size_t length = out.size() - 4;
  if (length > length_max(type)) {
    throw Failure("ERR_LOCKSTEP_LINK_MESSAGE",
                  "A message of " + std::to_string(length) + " bytes is too long.");
  }
  for (int i = 0; i < 4; i++) out[static_cast<size_t>(i)] = static_cast<uint8_t>(length >> (8 * i));
  return out;
}

std::array<uint8_t, 5> frame_head(size_t frame_bytes) {
  if (frame_bytes == 0 || frame_bytes > kFrameBytesMax) {
    throw Failure("ERR_LOCKSTEP_LINK_MESSAGE",
                  "A frame of " + std::to_string(frame_bytes) + " bytes cannot be sent.");
  }
  auto length = static_cast<uint32_t>(frame_bytes + 1);
  return {static_cast<uint8_t>(length), static_cast<uint8_t>(length >> 8), static_cast<uint8_t>(length >> 16),
          static_cast<uint8_t>(length >> 24), kFrameType};
}

size_t parse_link(std::span<const uint8_t> bytes, LinkMessage* message) {
  if (bytes.size() < 5) return 0;
  WireReader head(bytes);
  size_t length = head.u32();
  uint8_t type = head.u8();
  if (type == 0 || type > kTypes) damaged("a message of unknown type " + std::to_string(type) + ".");
  // Judged before waiting for the rest, so that a wrong length cannot make us wait, or buffer, for long.
  size_t tail = type == kFrameType ? 0 : 4;
  if (length < 1 + tail || length > length_max(type)) damaged("a message of impossible length.");
  if (bytes.size() < 4 + length) return 0;
  std::span<const uint8_t> body = bytes.subspan(4, length - tail);
  if (tail != 0) {
    WireReader sum(bytes.subspan(4 + length - tail, tail));
    if (sum.u32() != checksum(body)) damaged("a message whose checksum is wrong.");
  }
  WireReader fields(body.subspan(1));
  *message = read(type, fields);
  if (!fields.done()) damaged("a message whose fields do not fit its length.");
  return 4 + length;
}

}  // namespace lockstep
