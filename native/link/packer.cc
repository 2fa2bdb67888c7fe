#include "link/packer.h"

#include <zstd.h>

#include <new>

#include "error.h"

namespace lockstep {
namespace {
constexpr int kLevel = 1;       // higher ones gain little on logs and cost several times as much
constexpr int kWindowLog = 19;  // what either side keeps in mind of what went before
}  // namespace

struct Packer::State {
  ZSTD_CCtx* const context = ZSTD_createCCtx();
  ~State() { ZSTD_freeCCtx(context); }
};

Packer::Packer() : state_(std::make_unique<State>()) {
  if (state_->context == nullptr) throw std::bad_alloc();
  ZSTD_CCtx_setParameter(state_->context, ZSTD_c_compressionLevel, kLevel);
  ZSTD_CCtx_setParameter(state_->context, ZSTD_c_windowLog, kWindowLog);
}

Packer::~Packer() = default;

Bytes Packer::pack(std::span<const uint8_t> piece) {
  Bytes packed(ZSTD_compressBound(piece.size()) + 64);  // and a little for the head of the stream
  ZSTD_inBuffer in{piece.data(), piece.size(), 0};
  ZSTD_outBuffer out{packed.data(), packed.size(), 0};
  if (ZSTD_compressStream2(state_->context, &out, &in, ZSTD_e_flush) != 0)
    throw Failure("ERR_LOCKSTEP_LINK_MESSAGE", "A piece of the link's data cannot be compressed.");
  packed.resize(out.pos);
  return packed;
}

struct Unpacker::State {
  ZSTD_DCtx* const context = ZSTD_createDCtx();
  ~State() { ZSTD_freeDCtx(context); }
};

Unpacker::Unpacker() : state_(std::make_unique<State>()) {
  if (state_->context == nullptr) throw std::bad_alloc();
  ZSTD_DCtx_setParameter(state_->context, ZSTD_d_windowLogMax, kWindowLog);
}

Unpacker::~Unpacker() = default;

void Unpacker::unpack(std::span<const uint8_t> packed, size_t plain_bytes, Bytes* into) {
  const size_t before = into->size();
  if (plain_bytes <= kPieceBytesMax) into->resize(before + plain_bytes);
  ZSTD_inBuffer in{packed.data(), packed.size(), 0};
  ZSTD_outBuffer out{into->data() + before, into->size() - before, 0};
  size_t result = 1;
  // Each round consumes or brings something, or is the last.
  for (size_t moved = 1; moved > 0 && in.pos < in.size && !ZSTD_isError(result);) {
    moved = in.pos + out.pos;
    result = ZSTD_decompressStream(state_->context, &out, &in);
    moved = in.pos + out.pos - moved;
  }
  // The decompressor may hold back what there was no room for.
  uint8_t spare;
  ZSTD_outBuffer more{&spare, 1, 0};
  if (!ZSTD_isError(result)) result = ZSTD_decompressStream(state_->context, &more, &in);
  const bool is_whole = in.pos == in.size && out.pos == plain_bytes && more.pos == 0;
  if (ZSTD_isError(result) || plain_bytes > kPieceBytesMax || !is_whole)
    throw Failure("ERR_LOCKSTEP_LINK_DAMAGED",
                  "The other side of the link sent what cannot be decompressed.");
}

}  // namespace lockstep
