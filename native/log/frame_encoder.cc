#include <zstd.h>

#include <algorithm>
#include <utility>

#include "error.h"
#include "log/frame.h"
#include "log/frame_format.h"
#include "log/record_codec.h"

namespace lockstep {
namespace {

// A frame is closed by itself when it has grown so far, long before the decoder's limits.
constexpr size_t kPayloadSoftMax = size_t{1} << 20;
constexpr size_t kMemorySoftMax = size_t{8} << 20;

struct FreeCompressor {
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
};

}  // namespace

struct FrameEncoder::State : FrameState {
  Bytes pending;  // records of the open frame
  Bytes closed;   // frames that grew too large to wait for take()
  Bytes scratch;  // what the compressor writes into
  size_t pending_records = 0;
  size_t pending_events = 0;
  size_t pending_memory = 0;
  Counts counts{};
  std::unique_ptr<ZSTD_CCtx, FreeCompressor> compressor;

  std::span<const uint8_t> compress();
  void put_head(size_t payload, bool compressed);
  void close_frame();
  void count_overhead(size_t bytes);
};

FrameEncoder::FrameEncoder() : state_(std::make_unique<State>()) {}
FrameEncoder::FrameEncoder(const FrameDecoder& after) : FrameEncoder() {
  static_cast<FrameState&>(*state_) = after.position();
}
FrameEncoder::~FrameEncoder() = default;

void FrameEncoder::append(const Record& record) {
  State& s = *state_;
  const RecordSize size = size_bound(record);
  if (size.bytes > kPayloadMax || size.memory > kFrameMemoryMax)
    throw Failure("ERR_LOCKSTEP_INTERNAL",
                  "a record of " + std::to_string(size.bytes) + " bytes does not fit into a frame");
  if (s.pending.size() + size.bytes > kPayloadSoftMax || s.pending_memory + size.memory > kMemorySoftMax)
    s.close_frame();
  const size_t before = s.pending.size();
  encode_record(record, s.delta, s.pending);
  s.pending_records++;
  s.pending_memory += size.memory;
  if (const auto* event = std::get_if<Event>(&record)) {
    s.pending_events++;
    s.counts.events++;
    s.counts.event_bytes += s.pending.size() - before;
    for (const Input& input : event->inputs) s.counts.input_bytes += input.bytes.size();
  } else if (std::holds_alternative<Checkpoint>(record)) {
    s.counts.checkpoint_bytes += s.pending.size() - before;
  } else {
    s.counts.digest_bytes += s.pending.size() - before;
  }
}

size_t FrameEncoder::pending_bytes() const { return state_->closed.size() + state_->pending.size(); }

uint64_t FrameEncoder::last_lsn() const { return state_->delta.lsn; }

uint32_t FrameEncoder::chain() const { return state_->chain; }

Bytes FrameEncoder::take(Bytes room) {
  state_->close_frame();
  room.clear();
  return std::exchange(state_->closed, std::move(room));
}

FrameEncoder::Counts FrameEncoder::counts() const { return state_->counts; }

Bytes encode_end_frame(uint32_t chain, const End& end) {
  FrameEncoder::State state;
  state.chain = chain;
  encode_record(end, state.delta, state.pending);
  state.pending_records = 1;
  state.close_frame();
  return state.closed;
}

// Empty when it does not help.
std::span<const uint8_t> FrameEncoder::State::compress() {
  if (pending.size() < kCompressMin) return {};
  if (!compressor) {
    compressor.reset(ZSTD_createCCtx());
    if (!compressor) throw std::bad_alloc();
    ZSTD_CCtx_setParameter(compressor.get(), ZSTD_c_compressionLevel, kCompressLevel);
  }
  // With one byte less room than the plain payload needs, the compressor itself tells whether it helps.
  if (scratch.size() < pending.size()) scratch.resize(std::max<size_t>(pending.size(), 64 * 1024));
  const size_t size =
      ZSTD_compress2(compressor.get(), scratch.data(), pending.size() - 1, pending.data(), pending.size());
  if (ZSTD_isError(size)) return {};
  return {scratch.data(), size};
}

void FrameEncoder::State::put_head(size_t payload, bool compressed) {
  const size_t begin = closed.size();
  const bool more = payload > 0x1f;
  closed.push_back(static_cast<uint8_t>(kGeneral | (compressed ? kCompressed : 0) | (more ? kMoreLength : 0) |
                                        (payload & 0x1f)));
  if (more) put_varint(closed, payload >> 5);
  closed.push_back(head_check(std::span<const uint8_t>(closed).subspan(begin)));
}

void FrameEncoder::State::close_frame() {
  if (pending.empty()) return;
  const std::span<const uint8_t> compressed = compress();
  const std::span<const uint8_t> payload = compressed.empty() ? pending : compressed;
  const size_t begin = closed.size();
  closed.reserve(begin + payload.size() + 16);
  const bool small =
      pending_records == 1 && pending_events == 1 && compressed.empty() && payload.size() <= kSmallMax;
  if (!small) put_head(payload.size(), !compressed.empty());
  closed.insert(closed.end(), payload.begin(), payload.end());
  chain = crc32c(chain, std::span<const uint8_t>(closed).subspan(begin));
  put_fixed(closed, checksum_of(chain, payload.size()), checksum_bytes(payload.size()));

  const size_t frame_bytes = closed.size() - begin;
  counts.frames++;
  counts.frame_bytes += frame_bytes;
  count_overhead(frame_bytes - payload.size());
  pending.clear();
  pending_records = pending_events = pending_memory = 0;
}

// Framing counts as the events', as long as they would have needed it without the digests between them.
void FrameEncoder::State::count_overhead(size_t bytes) {
  const size_t events_alone = pending_events == pending_records ? bytes : 2 * pending_events;
  const size_t of_events = std::min(bytes, events_alone);
  counts.event_bytes += of_events;
  counts.digest_bytes += bytes - of_events;
}

}  // namespace lockstep
