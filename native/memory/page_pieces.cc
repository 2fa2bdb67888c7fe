#include "memory/page_pieces.h"

#include <zstd.h>

#include <algorithm>

#include "log/varint.h"

namespace lockstep {

namespace {

// A number for each page: the distance from the one before, and whether it is all zeros.
constexpr size_t kPlainMax = 16 + kPiecePagesMax * (kPageBytes + 10);

[[noreturn]] void damaged(const char* what) {
  throw Failure("ERR_LOCKSTEP_STATE_DAMAGED",
                std::string("a piece of the machine's memory is damaged: ") + what);
}

}  // namespace

bool is_zero(std::span<const uint8_t> page) {
  return page[0] == 0 && std::memcmp(page.data(), page.data() + 1, page.size() - 1) == 0;
}

// The guest may write to these pages meanwhile: they are sent again then, so a torn copy does no harm.
Bytes encode_pages(const GuestMemory& memory, std::span<const uint64_t> pages) {
  Bytes plain, contents;
  put_varint(plain, pages.size());
  uint64_t previous = 0;
  for (uint64_t page : pages) {
    const auto bytes = memory.view(page * kPageBytes, kPageBytes);
    const size_t begin = contents.size();
    contents.insert(contents.end(), bytes.begin(), bytes.end());
    const bool zero = is_zero(std::span<const uint8_t>(contents).subspan(begin));
    if (zero) contents.resize(begin);
    put_varint(plain, (page - previous) << 1 | (zero ? 1 : 0));
    previous = page;
  }
  plain.insert(plain.end(), contents.begin(), contents.end());
  Bytes piece(ZSTD_compressBound(plain.size()));
  const size_t size = ZSTD_compress(piece.data(), piece.size(), plain.data(), plain.size(), 1);
  if (ZSTD_isError(size)) throw Failure("ERR_LOCKSTEP_INTERNAL", "cannot compress memory");
  piece.resize(size);
  return piece;
}

void decode_pages(std::span<const uint8_t> piece, GuestMemory& memory) {
  static const uint8_t zeros[kPageBytes] = {};
  const uint64_t size = ZSTD_getFrameContentSize(piece.data(), piece.size());
  if (size == 0 || size > kPlainMax) damaged("an impossible size");
  Bytes plain(size);
  if (ZSTD_decompress(plain.data(), size, piece.data(), piece.size()) != size)
    damaged("it cannot be decompressed");
  Cursor cursor(plain);
  const uint64_t count = cursor.varint();
  if (count > kPiecePagesMax) damaged("too many pages");
  std::array<uint64_t, kPiecePagesMax> numbers{};
  uint64_t page = 0;
  for (uint64_t i = 0; i < count; i++) {
    numbers[i] = cursor.varint();
    page += numbers[i] >> 1;
    if (page >= memory.pages()) damaged("a page outside of the machine's memory");
  }
  page = 0;
  for (uint64_t i = 0; i < count && cursor.good(); i++) {
    page += numbers[i] >> 1;
    const bool zero = numbers[i] & 1;
    const auto contents = zero ? std::span<const uint8_t>(zeros, kPageBytes) : cursor.bytes(kPageBytes);
    // Fresh memory is zero, and stays unbacked if nobody writes to it.
    if (!cursor.good() || (zero && is_zero(memory.view(page * kPageBytes, kPageBytes)))) continue;
    memory.write(page * kPageBytes, contents);
  }
  if (!cursor.good() || cursor.left() > 0) damaged("its contents do not fit its size");
}

}  // namespace lockstep
