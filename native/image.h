// An image: what a machine starts from, at boot or, of a snapshot, in the midst of its life. Written by the
// packer (lib/image) and by snapshots (snapshot.h), read here and there.
//
// File, all little-endian:
//   front:   struct ImageHeader; struct ImageSegment[segment_count]; manifest (JSON, manifest_bytes);
//            state (snapshot.h, state_bytes; empty in what boots); a SHA-256 of each block of the content;
//            zeros up to a multiple of 4096.
//   content: content_bytes from content_offset on, a multiple of 4096, in blocks of block_bytes (the last may
//            be shorter). A segment's bytes stand in it at its file_offset, which is a multiple of 4096 too.
// Segments may share content: equal pages stand there once. Memory of no segment is zero.
//
// The front holds the hash of every block, so its own hash names the whole image, and who has it can judge
// each block by itself, in whatever order they arrive.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace lockstep {

enum class StartMode : uint32_t {
  kReal = 0,      // bare guest: 16-bit real mode at entry (CS base 0, IP = entry)
  kLong = 1,      // bare guest: 64-bit CPL 0, identity map, stack below the first segment
  kProgram = 2,   // the guest kernel and a Linux program (guest/abi.h)
  kSnapshot = 3,  // a machine that ran: it goes on from `state`
};

struct ImageHeader {
  char magic[8];          // "LSIMAGE2"
  uint32_t version;       // 2
  uint32_t mode;          // StartMode
  uint64_t entry;         // address of the first instruction (kProgram, kSnapshot: ignored)
  uint64_t memory_bytes;  // default RAM size, multiple of 2 MiB; of a snapshot, its RAM size
  uint32_t segment_count;
  uint32_t manifest_bytes;
  uint64_t state_bytes;
  uint64_t content_offset;  // the front's size
  uint64_t content_bytes;
  uint32_t block_bytes;  // a power of two from 4096 on
  uint32_t block_count;
  uint8_t sha256[32];  // of the front with this field zero
};
static_assert(sizeof(ImageHeader) == 104);

// In a snapshot, whole pages.
struct ImageSegment {
  uint64_t gpa;
  uint64_t bytes;
  uint64_t file_offset;
};

constexpr uint32_t kImageVersion = 2;
constexpr uint32_t kImageBlockBytes = 32 * 1024;  // of those that are written here; lib/image has the same
constexpr size_t kBlockHashBytes = 32;

struct Image {
  ImageHeader header{};
  std::vector<ImageSegment> segments;
  std::string manifest;
  std::span<const uint8_t> state;         // borrowed, like the two below
  std::span<const uint8_t> block_hashes;  // kBlockHashBytes each
  std::span<const uint8_t> file;          // the whole file; of a front alone, no more than that

  uint64_t file_bytes() const { return header.content_offset + header.content_bytes; }
  // How many bytes of the content are in this block.
  uint64_t block_length(uint64_t block) const;
  bool is_block(uint64_t block, std::span<const uint8_t> bytes) const;  // by its hash
};

// All throw ERR_LOCKSTEP_NOT_AN_IMAGE, and believe nothing.
// The size of the front, by its first sizeof(ImageHeader) bytes.
uint64_t image_front_bytes(std::span<const uint8_t> start);
// Checks the front and its hash, and nothing of what lies behind it.
Image parse_image_front(std::span<const uint8_t> front);
// Checks the front and every block.
Image parse_image(std::span<const uint8_t> file);

// For whoever writes an image: the front around a header, whose sizes, offset and hash it fills in. The
// offsets of segments count from the content's start.
std::vector<uint8_t> encode_image_front(ImageHeader header, std::vector<ImageSegment> segments,
                                        const std::string& manifest, std::span<const uint8_t> state,
                                        std::span<const uint8_t> block_hashes);

}  // namespace lockstep
