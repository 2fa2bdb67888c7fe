#include <zstd.h>

#include <algorithm>
#include <cstring>

#include "error.h"
#include "log/crc32c.h"
#include "log/log_file.h"
#include "log/varint.h"

namespace lockstep {
namespace {

// The line feed and carriage return are damaged by whatever takes a log for text.
constexpr char kMagic[8] = {'L', 'S', 'L', 'O', 'G', '\x1a', '\r', '\n'};
constexpr size_t kOptionsMax = size_t{1} << 20;
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
constexpr uint64_t kImageMax = uint64_t{1} << 24;
constexpr bool kChecked = false;
#else
constexpr uint64_t kImageMax = uint64_t{1} << 32;
constexpr bool kChecked = true;
#endif

// Magic, version, then the sizes and a checksum of it all, so that no size is believed before it is known
// to be what was written. Options, compressed image, start, memory and a checksum of everything follow. Each
// piece of memory stands behind its length.
constexpr size_t kPreambleBytes = 8 + 4 + 4 + 8 + 8 + 4 + 8 + 32 + 4;
constexpr size_t kStartMax = size_t{1} << 20;

Bytes compress(const Bytes& image) {
  if (image.empty()) return {};
  Bytes out(ZSTD_compressBound(image.size()));
  const size_t size = ZSTD_compress(out.data(), out.size(), image.data(), image.size(), 3);
  if (ZSTD_isError(size))
    throw Failure("ERR_LOCKSTEP_INTERNAL",
                  std::string("cannot compress the image: ") + ZSTD_getErrorName(size));
  out.resize(size);
  return out;
}

[[noreturn]] void throw_damaged(const std::string& what) {
  throw Failure("ERR_LOCKSTEP_LOG_DAMAGED", "the log is damaged in its header: " + what,
                "without its header a log cannot be replayed: take another copy of it");
}

Bytes decompress(std::span<const uint8_t> stored, uint64_t size) {
  if (size == 0) return {};
  if (ZSTD_getFrameContentSize(stored.data(), stored.size()) != size)
    throw_damaged("the image has another size than it should");
  Bytes image(size);
  if (ZSTD_decompress(image.data(), size, stored.data(), stored.size()) != size)
    throw_damaged("the image cannot be decompressed");
  return image;
}

std::vector<Bytes> split_pieces(std::span<const uint8_t> stored) {
  std::vector<Bytes> pieces;
  Cursor cursor(stored);
  while (cursor.good() && cursor.left() > 0) {
    const auto piece = cursor.bytes(cursor.fixed(4));
    pieces.emplace_back(piece.begin(), piece.end());
  }
  if (!cursor.good()) throw_damaged("its memory is cut short");
  return pieces;
}

}  // namespace

Bytes encode_log_header(const LogHeader& header) {
  if (header.options.size() > kOptionsMax || header.image.size() > kImageMax)
    throw Failure("ERR_LOCKSTEP_INTERNAL", "options or image are too large for a log");
  const Bytes stored = compress(header.image);
  const Bytes start = header.start ? encode_log_start(*header.start) : Bytes();
  uint64_t memory_bytes = 0;
  for (const Bytes& piece : header.memory) memory_bytes += 4 + piece.size();
  if (start.size() > kStartMax || memory_bytes > kImageMax)
    throw Failure("ERR_LOCKSTEP_INTERNAL", "the machine's state is too large for a log");
  Bytes out(kMagic, kMagic + sizeof kMagic);
  out.reserve(kPreambleBytes + header.options.size() + stored.size() + start.size() + memory_bytes + 4);
  put_fixed(out, header.version, 4);
  put_fixed(out, header.options.size(), 4);
  put_fixed(out, header.image.size(), 8);
  put_fixed(out, stored.size(), 8);
  put_fixed(out, start.size(), 4);
  put_fixed(out, memory_bytes, 8);
  out.insert(out.end(), header.image_sha256.begin(), header.image_sha256.end());
  put_fixed(out, ~crc32c(UINT32_MAX, out), 4);
  out.insert(out.end(), header.options.begin(), header.options.end());
  out.insert(out.end(), stored.begin(), stored.end());
  out.insert(out.end(), start.begin(), start.end());
  for (const Bytes& piece : header.memory) {
    put_fixed(out, piece.size(), 4);
    out.insert(out.end(), piece.begin(), piece.end());
  }
  put_fixed(out, ~crc32c(UINT32_MAX, out), 4);
  return out;
}

size_t decode_log_header(std::span<const uint8_t> bytes, LogHeader* header) {
  if (memcmp(bytes.data(), kMagic, std::min(bytes.size(), sizeof kMagic)) != 0)
    throw Failure("ERR_LOCKSTEP_NOT_A_LOG", "this is not a Lockstep log: it does not start like one",
                  "logs are written by `lockstep record --log FILE`");
  Cursor preamble(bytes.first(std::min(bytes.size(), kPreambleBytes)));
  preamble.bytes(sizeof kMagic);
  LogHeader result;
  result.version = static_cast<uint32_t>(preamble.fixed(4));
  // Before the checksum: another version may keep it elsewhere.
  if (preamble.good() && result.version != kLogVersion)
    throw Failure("ERR_LOCKSTEP_LOG_VERSION",
                  "this log is of version " + std::to_string(result.version) + ", this build reads version " +
                      std::to_string(kLogVersion),
                  result.version > kLogVersion ? "replay it with the Lockstep that wrote it, or a newer one"
                                               : "replay it with the Lockstep that wrote it");
  const uint64_t options_bytes = preamble.fixed(4);
  const uint64_t image_bytes = preamble.fixed(8);
  const uint64_t stored_bytes = preamble.fixed(8);
  const uint64_t start_bytes = preamble.fixed(4);
  const uint64_t memory_bytes = preamble.fixed(8);
  const auto sha256 = preamble.bytes(result.image_sha256.size());
  const uint64_t crc = preamble.fixed(4);
  if (!preamble.good()) return 0;
  const auto preamble_crc = static_cast<uint32_t>(~crc32c(UINT32_MAX, bytes.first(kPreambleBytes - 4)));
  if (kChecked && crc != preamble_crc) throw_damaged("its sizes do not match their checksum");
  if (options_bytes > kOptionsMax || image_bytes > kImageMax ||
      stored_bytes > ZSTD_compressBound(image_bytes) || (image_bytes == 0) != (stored_bytes == 0) ||
      start_bytes > kStartMax || memory_bytes > kImageMax || (memory_bytes > 0 && start_bytes == 0))
    throw_damaged("it has impossible sizes");

  const size_t checked = kPreambleBytes + options_bytes + stored_bytes + start_bytes + memory_bytes;
  if (bytes.size() < checked + 4) return 0;
  const auto all_crc = static_cast<uint32_t>(~crc32c(UINT32_MAX, bytes.first(checked)));
  if (kChecked && Cursor(bytes.subspan(checked)).fixed(4) != all_crc)
    throw_damaged("its contents do not match their checksum");
  const auto options = bytes.subspan(kPreambleBytes, options_bytes);
  result.options.assign(options.begin(), options.end());
  std::copy(sha256.begin(), sha256.end(), result.image_sha256.begin());
  auto rest = bytes.subspan(kPreambleBytes + options_bytes);
  result.image = decompress(rest.first(stored_bytes), image_bytes);
  rest = rest.subspan(stored_bytes);
  if (start_bytes > 0) result.start = decode_log_start(rest.first(start_bytes));
  result.memory = split_pieces(rest.subspan(start_bytes, memory_bytes));
  *header = std::move(result);
  return checked + 4;
}

}  // namespace lockstep
