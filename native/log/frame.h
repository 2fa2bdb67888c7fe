// Events to bytes and back. A frame is what is checksummed, written and sent as one.
//
// Both sides carry state from frame to frame (last LSN, last time, the checksum chain), so frames
// are decoded in order from the first, and a frame that went missing cannot pass unnoticed.
#pragma once

#include <memory>
#include <span>

#include "log/event.h"

namespace lockstep {

class FrameEncoder {
 public:
  FrameEncoder();
  // Goes on where a decoder stands: a shadow that went live continues the log it received.
  explicit FrameEncoder(const class FrameDecoder& after);
  ~FrameEncoder();
  void append(const Record& record);
  size_t pending_bytes() const;  // encoded but not yet in a frame, before compression
  uint64_t last_lsn() const;     // of the last event appended
  uint32_t chain() const;        // the checksum chain behind the last frame taken
  // Closes the frame: its bytes, or an empty vector when nothing is pending. The next one goes into `room`.
  Bytes take(Bytes room = {});
  struct Counts {
    uint64_t frames, events, event_bytes, input_bytes, digest_bytes, checkpoint_bytes, frame_bytes;
  };
  Counts counts() const;  // for `stats`: all before compression but frame_bytes

 private:
  struct State;
  std::unique_ptr<State> state_;
  friend Bytes encode_end_frame(uint32_t chain, const End& end);
};

// The frame of an End that follows those which `chain` stands for: of all that an encoder carries along, an
// End needs no more.
Bytes encode_end_frame(uint32_t chain, const End& end);

class FrameDecoder {
 public:
  FrameDecoder();
  // What is decoded next is the first frame behind `start`.
  void start_from(const struct LogStart& start);
  ~FrameDecoder();
  // The length of the frame at the front of `bytes`: 0 when more bytes are needed to tell.
  // Throws Failure ERR_LOCKSTEP_LOG_DAMAGED when this cannot be a frame.
  static size_t frame_length(std::span<const uint8_t> bytes);
  // Whether the frame at the front of `bytes`, which seems to end behind them, would be a whole one if one
  // bit of its head were another: then it is damaged, and `bytes` are not cut.
  bool hides_a_frame(std::span<const uint8_t> bytes) const;
  // Decodes one whole frame. `offset` is only for messages. Throws ERR_LOCKSTEP_LOG_DAMAGED, naming
  // the offset, when the checksum or the contents are wrong; the decoder is then unusable.
  std::vector<Record> decode(std::span<const uint8_t> frame, uint64_t offset);
  // Where the next frame goes on: for FrameEncoder.
  const struct FrameState& position() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lockstep
