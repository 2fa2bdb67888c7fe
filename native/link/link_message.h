// What the two sides of a pair say to each other.
//
//   message := u32 length of what follows, u8 type, fields, u32 checksum of type and fields
//
// All little-endian. A log frame goes without our checksum: it has its own. The parser believes nothing: it
// is fuzzed, every length is bounded by type, and anything odd throws ERR_LOCKSTEP_LINK_DAMAGED.
#pragma once

#include <span>
#include <string>
#include <variant>

#include "log/event.h"

namespace lockstep {

constexpr uint32_t kLinkVersion = 5;
constexpr size_t kFrameBytesMax = 64u << 20;
constexpr size_t kHeaderDataBytesMax = 1u << 20;
constexpr uint64_t kHeaderBytesMax = 4ull << 30;

namespace link_message {
// What a shadow says first on a connection (Hello, Resume, Witness) is numbered, from 1: who stands between
// may bring it late, when the shadow has given that connection up, and only the newest is believed.
struct Hello {
  std::string shadow_id;
  uint64_t number = 0;
};
struct Header {
  std::string pair_id;
  uint64_t generation = 0;
  uint64_t header_bytes = 0;
  bool is_running = false;  // the machine has started: memory, kept output and Start follow the header
};                          // the answer
struct HeaderData {
  std::span<const uint8_t> bytes;
};  // the encoded log header, in pieces
struct Refused {
  std::string why;
};                // the other answer
struct Ready {};  // shadow: loaded, waiting for records
struct Armed {
  uint64_t generation = 0;
};  // primary: you may claim this generation
struct Frame {
  std::span<const uint8_t> bytes;
};
struct ProgressTo {
  Progress progress;
};
struct Released {
  uint8_t channel = 0;
  uint64_t offset = 0;
};  // the console client has output up to here
// LSNs; bytes of frames executed; how many frames and progress messages arrived: the mark that commits
// output; and how many bytes of messages, which need not be kept for another connection.
struct Ack {
  uint64_t received = 0, executed = 0, executed_bytes = 0, mark = 0, taken = 0;
};
struct Heartbeat {
  uint64_t time_us = 0;
  bool is_reply = false;
  uint64_t taken = 0;  // as in Ack
};                     // a reply repeats the time it answers
struct Diverged {
  std::string what;
};  // shadow: do not count on me any more
struct Ended {
  uint8_t reason = 0;
  uint32_t status = 0;
};  // primary: on purpose; shadow: understood
struct Pages {
  std::span<const uint8_t> bytes;
};  // a piece of memory; later ones replace what earlier ones said
struct Kept {
  uint8_t channel = 0;
  uint64_t offset = 0;  // of the first byte
  std::span<const uint8_t> bytes;
};  // output up to Start that has not arrived yet
// The machine's state, which all that came before belongs to. What follows are frames. The counts are those
// that acknowledgements go on from.
struct Start {
  uint64_t mark = 0, log_bytes = 0;
  std::span<const uint8_t> log_start;  // encode_log_start
};
struct HandOver {};  // primary, the last that it says: go on in its place
// Which link another connection belongs to.
struct LinkName {
  std::string pair_id, shadow_id;
  uint64_t generation = 0;
  bool operator==(const LinkName&) const = default;
};
// shadow, first on a new connection: the link that was lost goes on here, behind so many bytes of messages
struct Resume {
  LinkName link;
  uint64_t number = 0;
  uint64_t taken = 0;
};
struct Resumed {
  uint64_t taken = 0;
};  // the answer
// shadow, all that it says on a second connection: this one has nothing unread, and so ends without a reset
// when its process does
struct Witness {
  LinkName link;
  uint64_t number = 0;
};
// A piece of the messages that follow, cut anywhere, compressed (packer.h).
struct Packed {
  uint32_t plain_bytes = 0;
  std::span<const uint8_t> bytes;
};
}  // namespace link_message

using LinkMessage =
    std::variant<link_message::Hello, link_message::Header, link_message::HeaderData, link_message::Refused,
                 link_message::Ready, link_message::Armed, link_message::Frame, link_message::ProgressTo,
                 link_message::Released, link_message::Ack, link_message::Heartbeat, link_message::Diverged,
                 link_message::Ended, link_message::Pages, link_message::Kept, link_message::Start,
                 link_message::HandOver, link_message::Resume, link_message::Resumed, link_message::Witness,
                 link_message::Packed>;

Bytes encode_link(const LinkMessage& message);
// The five bytes before a frame, so that sending one needs no copy.
std::array<uint8_t, 5> frame_head(size_t frame_bytes);
// Reads the message at the front: bytes used, 0 when more are needed. Spans in it point into `bytes`.
size_t parse_link(std::span<const uint8_t> bytes, LinkMessage* message);

}  // namespace lockstep
