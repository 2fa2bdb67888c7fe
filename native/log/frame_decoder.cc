#include <zstd.h>

#include <algorithm>

#include "error.h"
#include "log/frame.h"
#include "log/frame_format.h"
#include "log/log_start.h"
#include "log/record_codec.h"

namespace lockstep {
namespace {

[[noreturn]] void throw_damaged(uint64_t offset, const std::string& what) {
  throw Failure("ERR_LOCKSTEP_LOG_DAMAGED",
                "the log is damaged at byte " + std::to_string(offset) + ": " + what,
                "everything before that byte is whole: repairing the log keeps it");
}

struct Head {
  size_t head_bytes = 0;  // 0 in a small frame
  size_t payload_bytes = 0;
  bool compressed = false;
  size_t frame_bytes() const { return head_bytes + payload_bytes + checksum_bytes(payload_bytes); }
};

// The problem with the head at the front of `bytes`, or null. `head` is filled when there are bytes enough,
// else its frame has no bytes.
const char* read_general_head(std::span<const uint8_t> bytes, Head* head, bool* enough) {
  Cursor cursor(bytes);
  const uint8_t first = cursor.byte();
  uint64_t length = first & 0x1f;
  if (first & kMoreLength) {
    const uint64_t high = cursor.varint();
    if (high > kPayloadMax >> 5) cursor.fail("a frame is too long");
    length |= high << 5;
  }
  const size_t checked = cursor.used();
  const uint8_t check = cursor.byte();
  if (cursor.short_of_bytes()) return nullptr;
  if (!cursor.good()) return cursor.problem();
#ifndef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
  if (check != head_check(bytes.first(checked))) return "the head of a frame is wrong";
#else
  (void)check, (void)checked;
#endif
  if (length == 0 || length > kPayloadMax) return "a frame has an impossible length";
  *head = {cursor.used(), static_cast<size_t>(length), (first & kCompressed) != 0};
  *enough = true;
  return nullptr;
}

const char* read_head(std::span<const uint8_t> bytes, Head* head, bool* enough) {
  *enough = false;
  if (bytes.empty()) return nullptr;
  if (bytes[0] >= kGeneral) return read_general_head(bytes, head, enough);
  Cursor cursor(bytes.first(std::min(bytes.size(), kSmallMax)));
  skip_event(cursor);
  if (cursor.short_of_bytes()) return bytes.size() < kSmallMax ? nullptr : "an event is too long";
  if (!cursor.good()) return cursor.problem();
  *head = {0, cursor.used(), false};
  *enough = true;
  return nullptr;
}

// Whether the frame ends with the checksum that belongs there; `chain` is over all up to there.
bool checksum_fits(std::span<const uint8_t> frame, const Head& head, uint32_t chain) {
  Cursor checksum(frame.subspan(head.head_bytes + head.payload_bytes));
  return checksum.fixed(checksum_bytes(head.payload_bytes)) == checksum_of(chain, head.payload_bytes);
}

uint32_t chain_over(std::span<const uint8_t> frame, const Head& head, uint32_t before) {
  return crc32c(before, frame.first(head.head_bytes + head.payload_bytes));
}

struct FreeDecompressor {
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};

}  // namespace

struct FrameDecoder::State : FrameState {
  Bytes plain;  // what the decompressor writes into
  std::unique_ptr<ZSTD_DCtx, FreeDecompressor> decompressor;

  std::span<const uint8_t> decompress(std::span<const uint8_t> payload, uint64_t offset);
  void decode_one(std::span<const uint8_t> frame, const Head& head, uint64_t offset,
                  std::vector<Record>& records);
};

FrameDecoder::FrameDecoder() : state_(std::make_unique<State>()) {}
FrameDecoder::~FrameDecoder() = default;

void FrameDecoder::start_from(const LogStart& start) {
  state_->delta = {};
  state_->delta.lsn = start.digest.lsn;
  state_->delta.time_us = start.time_us;
  state_->delta.channels = start.digest.channels;
  state_->delta.registers = start.digest.register_values;
  state_->chain = start.chain;
}

const FrameState& FrameDecoder::position() const { return *state_; }

size_t FrameDecoder::frame_length(std::span<const uint8_t> bytes) {
  Head head;
  bool enough;
  if (const char* problem = read_head(bytes, &head, &enough))
    throw Failure("ERR_LOCKSTEP_LOG_DAMAGED", std::string("the log is damaged: ") + problem);
  return enough ? head.frame_bytes() : 0;
}

bool FrameDecoder::hides_a_frame(std::span<const uint8_t> bytes) const {
  Bytes mended(bytes.begin(), bytes.end());
  for (size_t bit = 0; bit < 8 * std::min(mended.size(), kHeadMax); bit++) {
    uint8_t& byte = mended[bit / 8];
    const uint8_t mask = static_cast<uint8_t>(1 << bit % 8);
    byte ^= mask;
    Head head;
    bool enough;
    if (!read_head(mended, &head, &enough) && enough && head.frame_bytes() <= mended.size() &&
        checksum_fits(mended, head, chain_over(mended, head, state_->chain)))
      return true;
    byte ^= mask;
  }
  return false;
}

std::vector<Record> FrameDecoder::decode(std::span<const uint8_t> frame, uint64_t offset) {
  std::vector<Record> records;
  // An encoder's take() may hold several frames, and it is welcome here as a whole.
  while (!frame.empty()) {
    Head head;
    bool enough;
    if (const char* problem = read_head(frame, &head, &enough)) throw_damaged(offset, problem);
    if (!enough || head.frame_bytes() > frame.size())
      throw_damaged(offset, "a frame is longer than what is left");
    state_->decode_one(frame.first(head.frame_bytes()), head, offset, records);
    offset += head.frame_bytes();
    frame = frame.subspan(head.frame_bytes());
  }
  return records;
}

std::span<const uint8_t> FrameDecoder::State::decompress(std::span<const uint8_t> payload, uint64_t offset) {
  const uint64_t size = ZSTD_getFrameContentSize(payload.data(), payload.size());
  // The two error values are the greatest of all sizes.
  if (size == 0 || size > kPayloadMax) throw_damaged(offset, "a compressed frame has an impossible length");
  if (!decompressor) decompressor.reset(ZSTD_createDCtx());
  if (!decompressor) throw std::bad_alloc();
  if (plain.size() < size) plain.resize(std::max<size_t>(size, 64 * 1024));
  const size_t got =
      ZSTD_decompressDCtx(decompressor.get(), plain.data(), size, payload.data(), payload.size());
  if (got != size) throw_damaged(offset, "a compressed frame cannot be decompressed");
  return {plain.data(), got};
}

void FrameDecoder::State::decode_one(std::span<const uint8_t> frame, const Head& head, uint64_t offset,
                                     std::vector<Record>& records) {
  chain = chain_over(frame, head, chain);
#ifndef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION  // No fuzzer gets past a checksum.
  if (!checksum_fits(frame, head, chain)) throw_damaged(offset, "the checksum of a frame is wrong");
#endif
  std::span<const uint8_t> payload = frame.subspan(head.head_bytes, head.payload_bytes);
  if (head.compressed) payload = decompress(payload, offset);
  Cursor cursor(payload);
  size_t memory = kFrameMemoryMax;
  while (cursor.good() && cursor.left() > 0) {
    Record record = decode_record(cursor, delta, memory);
    if (cursor.good()) records.push_back(std::move(record));
  }
  if (!cursor.good()) throw_damaged(offset, cursor.problem());
}

}  // namespace lockstep
