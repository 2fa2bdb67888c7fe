#include "image.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "error.h"
#include "sha256.h"

namespace lockstep {
namespace {

constexpr uint64_t kMemoryBytesMax = uint64_t{1} << 40;
constexpr uint64_t kMemoryUnit = 2 << 20;
constexpr uint64_t kPage = 4096;
constexpr uint32_t kSegmentsMax = 1 << 24;
constexpr uint64_t kFrontBytesMax = uint64_t{1} << 30;
constexpr uint64_t kContentBytesMax = uint64_t{1} << 41;
constexpr uint32_t kBlockBytesMax = 1 << 24;

uint64_t round_up(uint64_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

void require(bool right, const std::string& what) {
  if (right) return;
  throw Failure("ERR_LOCKSTEP_NOT_AN_IMAGE", "not a Lockstep image: " + what,
                "pack it again with `lockstep image`, or take the snapshot again; if it was copied, compare "
                "the copy with the original");
}

uint64_t tables_bytes(const ImageHeader& h) {
  return sizeof h + uint64_t{h.segment_count} * sizeof(ImageSegment) + h.manifest_bytes + h.state_bytes +
         uint64_t{h.block_count} * kBlockHashBytes;
}

void check_header(const ImageHeader& header) {
  require(memcmp(header.magic, "LSIMAGE", sizeof header.magic - 1) == 0, "it does not start with LSIMAGE");
  require(header.version == kImageVersion && header.magic[7] == '2',
          "its version is " + std::to_string(header.version) + ", this build reads " +
              std::to_string(kImageVersion));
  require(header.mode <= static_cast<uint32_t>(StartMode::kSnapshot), "its start mode is unknown");
  require(header.memory_bytes > 0 && header.memory_bytes <= kMemoryBytesMax &&
              header.memory_bytes % kMemoryUnit == 0,
          "its memory size is not a multiple of 2 MiB up to 1 TiB");
  require(header.segment_count <= kSegmentsMax, "it has too many segments");
  // In real mode CS is based at 0 and IP has 16 bits.
  const auto mode = static_cast<StartMode>(header.mode);
  const uint64_t entry_end = mode == StartMode::kReal ? 0x10000 : header.memory_bytes;
  require(mode >= StartMode::kProgram || header.entry < entry_end, "its entry lies outside of memory");
  require(std::has_single_bit(header.block_bytes) && header.block_bytes >= kPage &&
              header.block_bytes <= kBlockBytesMax,
          "its blocks are no power of two from 4 KiB to 16 MiB");
  require(header.content_bytes <= kContentBytesMax && header.content_bytes % kPage == 0,
          "its content is not made of pages");
  require(header.block_count == (header.content_bytes + header.block_bytes - 1) / header.block_bytes,
          "its blocks do not cover its content");
  require(header.state_bytes <= kFrontBytesMax && tables_bytes(header) <= kFrontBytesMax,
          "its front is too large");
  require(header.content_offset == round_up(tables_bytes(header)), "its content is not where it should be");
}

std::array<uint8_t, 32> hash_front(std::span<const uint8_t> front, ImageHeader header) {
  memset(header.sha256, 0, sizeof header.sha256);
  Sha256 hash;
  hash.update({reinterpret_cast<const uint8_t*>(&header), sizeof header});
  hash.update(front.subspan(sizeof header));
  return hash.finish();
}

bool by_address(const ImageSegment& a, const ImageSegment& b) { return a.gpa < b.gpa; }

// Every segment's bytes lie in the content, and its place in memory is its alone.
void check_segments(const Image& image) {
  const ImageHeader& header = image.header;
  std::vector<ImageSegment> sorted = image.segments;
  if (!std::is_sorted(sorted.begin(), sorted.end(), by_address))
    std::sort(sorted.begin(), sorted.end(), by_address);
  const bool pages = header.mode == static_cast<uint32_t>(StartMode::kSnapshot);
  uint64_t previous_end = 0;
  for (const ImageSegment& segment : sorted) {
    require(segment.file_offset % kPage == 0 && segment.file_offset >= header.content_offset &&
                segment.file_offset <= image.file_bytes() &&
                segment.bytes <= image.file_bytes() - segment.file_offset,
            "a segment lies outside of the file");
    require(segment.gpa <= header.memory_bytes && segment.bytes <= header.memory_bytes - segment.gpa,
            "a segment lies outside of memory");
    require(!pages || (segment.gpa % kPage == 0 && segment.bytes % kPage == 0),
            "a segment of a snapshot is not made of pages");
    require(segment.gpa >= previous_end, "two segments overlap in memory");
    previous_end = segment.gpa + segment.bytes;
  }
}

#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION  // No fuzzer finds a SHA-256.
constexpr bool kHashesCount = false;
#else
constexpr bool kHashesCount = true;
#endif

}  // namespace

uint64_t Image::block_length(uint64_t block) const {
  return std::min<uint64_t>(header.block_bytes, header.content_bytes - block * header.block_bytes);
}

bool Image::is_block(uint64_t block, std::span<const uint8_t> bytes) const {
  if (bytes.size() != block_length(block)) return false;
  const auto hash = sha256(bytes);
  return memcmp(hash.data(), block_hashes.data() + block * kBlockHashBytes, kBlockHashBytes) == 0 ||
         !kHashesCount;
}

uint64_t image_front_bytes(std::span<const uint8_t> start) {
  ImageHeader header;
  require(start.size() >= sizeof header, "it is too short");
  memcpy(&header, start.data(), sizeof header);
  check_header(header);
  return header.content_offset;
}

Image parse_image_front(std::span<const uint8_t> front) {
  const uint64_t bytes = image_front_bytes(front);
  Image image;
  memcpy(&image.header, front.data(), sizeof image.header);
  require(bytes <= front.size(), "it is cut short");
  image.file = front.first(bytes);
  auto rest = image.file.subspan(sizeof image.header);
  const auto take = [&rest](uint64_t size) {
    const auto part = rest.first(size);
    rest = rest.subspan(size);
    return part;
  };
  image.segments.resize(image.header.segment_count);
  const auto segments = take(image.header.segment_count * sizeof(ImageSegment));
  if (!segments.empty()) memcpy(image.segments.data(), segments.data(), segments.size());
  const auto manifest = take(image.header.manifest_bytes);
  image.manifest.assign(manifest.begin(), manifest.end());
  image.state = take(image.header.state_bytes);
  image.block_hashes = take(uint64_t{image.header.block_count} * kBlockHashBytes);
  check_segments(image);
  const auto hash = hash_front(image.file, image.header);
  require(memcmp(hash.data(), image.header.sha256, hash.size()) == 0 || !kHashesCount,
          "its hash is wrong, so its front was damaged");
  return image;
}

Image parse_image(std::span<const uint8_t> file) {
  Image image = parse_image_front(file);
  require(file.size() >= image.file_bytes(), "it is cut short");
  require(file.size() == image.file_bytes(), "more follows where it should end");
  image.file = file;
  auto content = file.subspan(image.header.content_offset);
  for (uint64_t block = 0; block < image.header.block_count; block++) {
    const uint64_t length = image.block_length(block);
    require(image.is_block(block, content.first(length)),
            "the hash of its block " + std::to_string(block) + " is wrong, so its contents were damaged");
    content = content.subspan(length);
  }
  return image;
}

std::vector<uint8_t> encode_image_front(ImageHeader header, std::vector<ImageSegment> segments,
                                        const std::string& manifest, std::span<const uint8_t> state,
                                        std::span<const uint8_t> block_hashes) {
  memcpy(header.magic, "LSIMAGE2", sizeof header.magic);
  header.version = kImageVersion;
  header.segment_count = static_cast<uint32_t>(segments.size());
  header.manifest_bytes = static_cast<uint32_t>(manifest.size());
  header.state_bytes = state.size();
  header.block_count = static_cast<uint32_t>(block_hashes.size() / kBlockHashBytes);
  header.content_offset = round_up(tables_bytes(header));
  for (ImageSegment& segment : segments) segment.file_offset += header.content_offset;
  memset(header.sha256, 0, sizeof header.sha256);
  std::vector<uint8_t> front;
  front.reserve(header.content_offset);
  const auto put = [&front](const void* data, size_t bytes) {
    const auto* from = static_cast<const uint8_t*>(data);
    front.insert(front.end(), from, from + bytes);
  };
  put(&header, sizeof header);
  put(segments.data(), segments.size() * sizeof(ImageSegment));
  put(manifest.data(), manifest.size());
  put(state.data(), state.size());
  put(block_hashes.data(), block_hashes.size());
  front.resize(header.content_offset);
  const auto hash = sha256(front);
  memcpy(front.data() + offsetof(ImageHeader, sha256), hash.data(), hash.size());
  return front;
}

}  // namespace lockstep
