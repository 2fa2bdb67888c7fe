// Single records to bytes and back; what frames are filled with.
//
// An event begins with a byte below 0x80: accesses (bits 0-2; 7: a varint of the rest follows), time (3-4)
// and inputs (5-6). Then come the access hash (2 bytes), the packed byte of a short line, the time, the
// inputs.
//   time: 0 none; 1, 2: microseconds since the previous one in 2 or 3 bytes; 3: zigzag varint of the
//   difference inputs: 0 none; 1: one byte of data on channel 0; 2: a short line, 2-9 bytes on channel 0,
//   whose packed
//     byte holds length - 2 (bits 0-2) and the five bits that continue a time of kind 1 or 2; 3: a list
//   An input of a list is a byte below 0x80, length - 1 of data on channel 0, the last of its list; or a byte
//     with 0x80, more follow (bit 6), kind (3-5), channel (1-2; 3: the next byte), length is the usual one
//     for its kind (0) or comes as a varint. Then its bytes. A packet has no channel, and three more bits of
//     its length there: 0-6 with the low eight in the next byte; 7, a varint of what exceeds 0x700.
// So a key at a terminal costs 6-7 bytes and its event 8-9 with a frame's checksum: LSN and framing are
// free, and the budget of 1.1 x input + 8 bytes per event holds even when every event is its own frame.
//
// All other records begin with 0x80 | kind.
#pragma once

#include "log/event.h"
#include "log/varint.h"

namespace lockstep {

// 1 is the event, which needs no tag; 7 (branch count) is reserved.
constexpr uint8_t kDigestTag = 0x82, kEndTag = 0x83, kTakeoverTag = 0x84, kCheckpointTag = 0x86;

// What records are written as a difference to. The encoder's and the decoder's run in step.
struct DeltaState {
  uint64_t lsn = 0;
  uint64_t time_us = 0;
  std::array<ChannelPosition, kOutputChannels> channels{};
  std::vector<uint64_t> registers;
  bool ended = false;  // nothing may follow an End
};

// Appends one record. Throws Failure ERR_LOCKSTEP_INTERNAL when it has no place in a log: an LSN that does
// not follow, an unknown kind, anything after an End, Progress.
void encode_record(const Record& record, DeltaState& state, Bytes& out);

// At most so many bytes, and so much memory when decoded.
struct RecordSize {
  size_t bytes, memory;
};
RecordSize size_bound(const Record& record);

// Reads one record; whether it was one, `cursor` tells. Takes what the result will occupy from `memory` and
// fails when that is used up, because a few bytes of a hostile log could ask for gigabytes.
Record decode_record(Cursor& cursor, DeltaState& state, size_t& memory);

// Passes over one event without making it.
void skip_event(Cursor& cursor);

// What a record takes apart from what its size decides.
constexpr size_t kRecordMemory = sizeof(Record);
constexpr size_t kInputMemory = sizeof(Input) + 32;

constexpr uint8_t kInputKinds = 8;
constexpr size_t kUsualLength[kInputKinds] = {1, 0, 0, 1, 4, 1, 1, 0};
constexpr size_t kLongPacket = 0x700;
constexpr size_t kRegisterValuesMax = 255;
constexpr size_t kPageBytesLogged = 4096;  // a guest's page; the log knows nothing of guest memory
constexpr size_t kVcpuBytesMax = 64 * 1024;

// Bits of a digest's second byte.
enum DigestFlags : uint8_t { kHasMemory = 1, kIsWhole = 2, kHasRegisters = 4, kHasPages = 8 };

}  // namespace lockstep
