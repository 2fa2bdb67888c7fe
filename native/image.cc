#include "image.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "error.h"
#include "sha256.h"

namespace lockstep {
namespace {

constexpr uint64_t kMemoryBytesMax = uint64_t{1} << 40;
constexpr uint64_t kMemoryUnit = 2 << 20;
constexpr uint64_t kPage = 4096;
constexpr uint32_t kSegmentsMax = 65536;

void require(bool right, const std::string& what) {
  if (right) return;
  throw Failure("ERR_LOCKSTEP_NOT_AN_IMAGE", "not a Lockstep image: " + what,
                "pack it again with `lockstep image`; if it was copied, compare the copy with the original");
}

void check_header(const ImageHeader& header) {
  require(memcmp(header.magic, "LSIMAGE1", sizeof header.magic) == 0, "it does not start with LSIMAGE1");
  require(header.version == 1, "its version is " + std::to_string(header.version) + ", this build reads 1");
  require(header.mode <= static_cast<uint32_t>(StartMode::kProgram), "its start mode is unknown");
  require(header.memory_bytes > 0 && header.memory_bytes <= kMemoryBytesMax &&
              header.memory_bytes % kMemoryUnit == 0,
          "its memory size is not a multiple of 2 MiB up to 1 TiB");
  require(header.segment_count <= kSegmentsMax, "it has too many segments");
  // In real mode CS is based at 0 and IP has 16 bits.
  const auto mode = static_cast<StartMode>(header.mode);
  const uint64_t entry_end = mode == StartMode::kReal ? 0x10000 : header.memory_bytes;
  require(mode == StartMode::kProgram || header.entry < entry_end, "its entry lies outside of memory");
}

std::array<uint8_t, 32> hash_without_hash(std::span<const uint8_t> file, ImageHeader header) {
  memset(header.sha256, 0, sizeof header.sha256);
  Sha256 hash;
  hash.update({reinterpret_cast<const uint8_t*>(&header), sizeof header});
  hash.update(file.subspan(sizeof header));
  return hash.finish();
}

// Every segment's bytes lie in the file behind the manifest, and its place in memory is its alone.
void check_segments(const Image& image, uint64_t tables_bytes) {
  std::vector<ImageSegment> sorted = image.segments;
  std::sort(sorted.begin(), sorted.end(),
            [](const ImageSegment& a, const ImageSegment& b) { return a.gpa < b.gpa; });
  uint64_t previous_end = 0;
  for (const ImageSegment& segment : sorted) {
    require(segment.file_offset % kPage == 0 && segment.file_offset >= tables_bytes &&
                segment.file_offset <= image.file.size() &&
                segment.bytes <= image.file.size() - segment.file_offset,
            "a segment lies outside of the file");
    require(
        segment.gpa <= image.header.memory_bytes && segment.bytes <= image.header.memory_bytes - segment.gpa,
        "a segment lies outside of memory");
    require(segment.gpa >= previous_end, "two segments overlap in memory");
    previous_end = segment.gpa + segment.bytes;
  }
}

}  // namespace

Image parse_image(std::span<const uint8_t> file) {
  Image image;
  image.file = file;
  require(file.size() >= sizeof image.header, "it is too short");
  memcpy(&image.header, file.data(), sizeof image.header);
  check_header(image.header);

  const uint64_t segments_bytes = image.header.segment_count * sizeof(ImageSegment);
  const uint64_t tables_bytes = sizeof image.header + segments_bytes + image.header.manifest_bytes;
  require(tables_bytes <= file.size(), "it is cut short");
  image.segments.resize(image.header.segment_count);
  if (segments_bytes > 0) memcpy(image.segments.data(), file.data() + sizeof image.header, segments_bytes);
  image.manifest.assign(reinterpret_cast<const char*>(file.data()) + sizeof image.header + segments_bytes,
                        image.header.manifest_bytes);
  check_segments(image, tables_bytes);

#ifndef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION  // No fuzzer finds a SHA-256.
  require(memcmp(hash_without_hash(file, image.header).data(), image.header.sha256, 32) == 0,
          "its hash is wrong, so its contents were damaged");
#else
  hash_without_hash(file, image.header);
#endif
  return image;
}

}  // namespace lockstep
