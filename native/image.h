// An image: what a machine starts from. Written by the packer (lib/image), read here and there.
//
// File, all little-endian:
//   struct ImageHeader; struct ImageSegment[segment_count]; manifest (JSON, manifest_bytes);
//   zero padding to a multiple of 4096; each segment's bytes at its file_offset, 4096-aligned.
// The core needs only the header and the segments; the manifest is for people and for lib/.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace lockstep {

enum class StartMode : uint32_t {
  kReal = 0,     // bare guest: 16-bit real mode at entry (CS base 0, IP = entry)
  kLong = 1,     // bare guest: 64-bit CPL 0, identity map, stack below the first segment
  kProgram = 2,  // the guest kernel and a Linux program (guest/abi.h)
};

struct ImageHeader {
  char magic[8];          // "LSIMAGE1"
  uint32_t version;       // 1
  uint32_t mode;          // StartMode
  uint64_t entry;         // address of the first instruction (kProgram: ignored)
  uint64_t memory_bytes;  // default RAM size, multiple of 2 MiB
  uint32_t segment_count;
  uint32_t manifest_bytes;
  uint8_t sha256[32];  // of the whole file with this field zero
};
static_assert(sizeof(ImageHeader) == 72);

struct ImageSegment {
  uint64_t gpa;
  uint64_t bytes;
  uint64_t file_offset;
};

struct Image {
  ImageHeader header{};
  std::vector<ImageSegment> segments;
  std::string manifest;
  std::span<const uint8_t> file;  // the whole file; borrowed
};

// Throws ERR_LOCKSTEP_NOT_AN_IMAGE when the bytes are no image or their hash is wrong.
Image parse_image(std::span<const uint8_t> file);

}  // namespace lockstep
